// Remembers the language in a cookie, which both the page and its answers go by, and serves the page anew.
document.documentElement.lang = element.querySelector("select").value;
element.addEventListener("change", (event) => {
  const secure = location.protocol === "https:" ? "; SameSite=None; Secure" : "; SameSite=Lax";
  document.cookie = `tunescope_language=${event.target.value}; path=/; max-age=31536000${secure}`;
  location.reload();
});
