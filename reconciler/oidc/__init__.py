"""Identities that an OpenID Connect issuer vouches for: its keys, its tokens, and what they may here."""
