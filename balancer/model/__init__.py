"""The nouns: frozen values of the standard library only, shared by every other package."""
