-- compatible_from: 0041
-- Who may call them. What the tables checked at each row is made by these functions, or checked by them once a call: a check
-- of a table is read and compiled anew by each statement.
ALTER TABLE trueup.events DROP CONSTRAINT events_event_id_check, DROP CONSTRAINT events_aggregate_seq_check,
    DROP CONSTRAINT events_event_version_check, DROP CONSTRAINT events_actor_type_check, DROP CONSTRAINT events_hash_check;
ALTER TABLE trueup.commands DROP CONSTRAINT commands_check;
ALTER TABLE trueup.log_head DROP CONSTRAINT log_head_head_hash_check, DROP CONSTRAINT log_head_epoch_check,
    DROP CONSTRAINT log_head_last_event_id_check, DROP CONSTRAINT log_head_only_row_check;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'trueup'::regnamespace
        AND proname IN ('append_batch', 'append_one') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO trueup_append, trueup_app', name);
    END LOOP;
END $$;
