"""What several tabs share: views, background work, the model picker, the theme."""
