-- Who may act as which loop. epoch grows with each new holder; an append that names an older one is refused, so that a
-- holder that was paused for too long changes nothing when it wakes.
CREATE TABLE trueup.leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    epoch bigint NOT NULL CHECK (epoch > 0),
    expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON trueup.leases TO trueup_app;
