-- compatible_from: 0030
-- What people see of a lease, and what its contenders need: since when its holder has it, for how long it lives without a
-- renewal, and what the holder says about its loop ("" when all is well).
ALTER TABLE trueup.leases
    ADD COLUMN since timestamptz,
    ADD COLUMN ttl_s double precision NOT NULL DEFAULT 15 CHECK (ttl_s > 0),
    ADD COLUMN trouble text NOT NULL DEFAULT '';
