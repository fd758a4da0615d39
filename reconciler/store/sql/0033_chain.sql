-- The hashes of consecutive events, as a window function: chain(h(n-1) of the first, canonical) OVER (ORDER BY event_id).
CREATE AGGREGATE trueup.chain(start bytea, canonical text) (SFUNC = trueup.chain_link, STYPE = bytea);
