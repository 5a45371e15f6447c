"""Components shared by the tabs: views, background work, the model picker, the theme."""
