-- h(n) = SHA-256(0x00 || h(n-1) || canonical text of event n in UTF-8); before the first event, h is 32 zero bytes.
-- The first argument is the state of the aggregate 0033; start counts when there is no state yet.
CREATE FUNCTION trueup.chain_link(before bytea, start bytea, canonical text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN sha256('\x00'::bytea || coalesce(before, start) || convert_to(canonical, 'UTF8'));
END $$;
