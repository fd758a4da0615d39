-- Stops even the owner of the table; the application's role has no right to try.
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trueup.events
    FOR EACH STATEMENT EXECUTE FUNCTION trueup.refuse_change();
