"""The Compare tab: cards, feed, details, links, prompt sets and the replay check."""
