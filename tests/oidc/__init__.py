"""OpenID Connect issuers: a real one (glewlwyd), and one that lies."""
