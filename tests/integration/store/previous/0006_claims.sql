-- Keys that only one owner can hold (a host name, an address, a volume's writer), changed in the transaction that appends.
CREATE TABLE trueup.claims (
    kind text NOT NULL,
    key text NOT NULL,
    owner text NOT NULL,
    event_id bigint NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX claims_by_owner ON trueup.claims (owner);
GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.claims TO trueup_app;
