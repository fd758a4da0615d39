-- Who may do what. The append role adds events through the functions and can neither write the tables of the log nor move
-- its head; the project role keeps the views; the read role reads. The application's role is all three.
REVOKE INSERT ON trueup.events, trueup.commands FROM trueup_app;
REVOKE UPDATE (last_event_id) ON trueup.log_head FROM trueup_app;
GRANT UPDATE (only_row) ON trueup.log_head TO trueup_app, trueup_append;  -- says nothing: it is the right to lock the row
DO $$
DECLARE
    name text;
BEGIN
    GRANT USAGE ON SCHEMA trueup TO trueup_append, trueup_project, trueup_read;
    GRANT SELECT ON trueup.log_head, trueup.events, trueup.commands, trueup.claims, trueup.leases, trueup.checkpoints,
        trueup.quarantine, trueup.node_heartbeats, trueup.migrations TO trueup_append, trueup_project, trueup_read;
    ALTER DEFAULT PRIVILEGES IN SCHEMA trueup GRANT SELECT ON TABLES TO trueup_read;
    GRANT INSERT, UPDATE, DELETE ON trueup.claims, trueup.leases TO trueup_append;
    GRANT INSERT, UPDATE, DELETE ON trueup.checkpoints, trueup.quarantine TO trueup_project;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'trueup' AND tablename LIKE 'view\_%' LOOP
        EXECUTE format('GRANT SELECT ON trueup.%I TO trueup_append, trueup_read', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON trueup.%I TO trueup_project', name);
    END LOOP;
    FOR name IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'trueup'::regnamespace
        AND proname IN ('write_events', 'append_commands', 'append_one', 'look_before_append') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO trueup_append, trueup_app', name);
    END LOOP;
END $$;
