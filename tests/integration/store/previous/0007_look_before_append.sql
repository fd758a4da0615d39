-- Takes the lock of the log's head, then reads everything that a batch of commands depends on, in one call.
-- It is a function because each statement inside it sees what was committed before it began; in a single statement the rows
-- would be as they were before the wait for the lock.
-- must_be_new marks the aggregates of which a command says that they must not exist: only for them is it worth while to ask
-- whether their last life has ended. The index scan is forced: a plan that was made on an empty table would scan for ever.
CREATE FUNCTION trueup.look_before_append(
    command_ids text[], aggregate_types text[], aggregate_ids text[], must_be_new boolean[],
    claim_kinds text[], claim_keys text[],
    OUT log_id text, OUT last_event_id bigint, OUT commands jsonb, OUT aggregates jsonb, OUT claims jsonb
) LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    SELECT head.log_id, head.last_event_id INTO look_before_append.log_id, look_before_append.last_event_id
        FROM trueup.log_head head FOR UPDATE;
    SELECT jsonb_agg(jsonb_build_array(c.command_id, c.body_hash, c.first_event_id, c.last_event_id)) INTO commands
        FROM unnest(command_ids) wanted (command_id) JOIN trueup.commands c USING (command_id);
    SELECT jsonb_agg(jsonb_build_array(wanted.type, wanted.id, newest.aggregate_seq, coalesce(life.ended, false)))
        INTO aggregates
        FROM unnest(aggregate_types, aggregate_ids, must_be_new) wanted (type, id, must_be_new)
        CROSS JOIN LATERAL (
            SELECT e.aggregate_seq FROM trueup.events e
            WHERE e.aggregate_type = wanted.type AND e.aggregate_id = wanted.id
            ORDER BY e.aggregate_seq DESC LIMIT 1
        ) newest
        LEFT JOIN LATERAL (
            SELECT e.event_type = wanted.type || '.deleted' AS ended FROM trueup.events e
            WHERE wanted.must_be_new AND e.aggregate_type = wanted.type AND e.aggregate_id = wanted.id
                AND e.event_type IN (wanted.type || '.created', wanted.type || '.deleted')
            ORDER BY e.aggregate_seq DESC LIMIT 1
        ) life ON true;
    SELECT jsonb_agg(jsonb_build_array(c.kind, c.key, c.owner)) INTO claims
        FROM unnest(claim_kinds, claim_keys) wanted (kind, key) JOIN trueup.claims c USING (kind, key);
END $$;
