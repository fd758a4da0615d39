-- compatible_from: 0091
-- The newest certificate that any controller gave to each machine. No history, and no event: it may be lost.
CREATE TABLE trueup.machine_certificates (
    identity_id text PRIMARY KEY,
    generation bigint NOT NULL,
    issuer text NOT NULL,
    root text NOT NULL,
    certified_at timestamptz NOT NULL,
    not_after timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.machine_certificates TO trueup_app;
GRANT SELECT ON trueup.machine_certificates TO trueup_read;
