// Lint for the page's scripts. Each is the body of a function that Gradio calls when a component loads, with the
// arguments below; a script that is a module (`/* exported name */`) is joined in front of the one that uses it.
// By hand: npx eslint@9 --config .ci/eslint.config.mjs ui
const GRADIO = ["element", "trigger", "props", "watch"];
const BROWSER = [
  "Blob", "Node", "URL", "addEventListener", "document", "innerHeight", "innerWidth", "location", "navigator",
  "performance", "setTimeout", "window",
];

export default [{
  files: ["**/*.js"],
  languageOptions: {
    sourceType: "script",
    globals: Object.fromEntries([...GRADIO, ...BROWSER].map((name) => [name, "readonly"])),
  },
  linterOptions: { reportUnusedDisableDirectives: "error" },
  rules: { "no-undef": "error", "no-unused-vars": "error" },
}];
