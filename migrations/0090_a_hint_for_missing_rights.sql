-- Why: who may not ask for anything was told of a table that they need not know, and not who can give them the right.
--
-- A server of a version before this works on.

CREATE OR REPLACE FUNCTION admin_request(verb text, arguments jsonb DEFAULT '{}', dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    given jsonb := jsonb_strip_nulls(coalesce($2, '{}'));
    name text;
    value text;
    at timestamptz;
    ns numeric;
    is_first boolean;
    new_id bigint;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        PERFORM refuse_read_only('admin_request');
    ELSIF NOT has_any_column_privilege('admin_requests', 'INSERT') THEN
        RAISE EXCEPTION 'role % may not ask the servers for anything', quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('The owner of the tables gives it the right: SELECT %I.grant_to_operator(%L);',
                                current_schema(), quote_ident(current_user));
    ELSIF $1 IS NULL OR octet_length($1) > 100 OR jsonb_typeof(given) <> 'object' OR octet_length(given::text) > 65536 THEN
        RAISE EXCEPTION 'this is no request'
            USING ERRCODE = 'STB04', HINT = 'It is a verb, such as channel purge, and an object with its arguments.';
    END IF;
    FOREACH name IN ARRAY ARRAY['time', 'before_time', 'max_age', 'max_inactivity'] LOOP
        value := given ->> name;
        CONTINUE WHEN value IS NULL;
        BEGIN
            IF name LIKE 'max%' THEN
                ns := extract(epoch FROM value::interval) * 1000000000;
            ELSE
                IF value ~ '^[0-9.]+ *[a-z]+( ago)?$' THEN
                    at := clock_timestamp() - regexp_replace(value, ' *ago$', '')::interval;
                ELSE
                    at := value::timestamptz;
                END IF;
                ns := extract(epoch FROM at) * 1000000000;
            END IF;
            IF ns < 0 OR ns >= 9223372036854775807 THEN
                RAISE EXCEPTION USING ERRCODE = 'datetime_field_overflow';
            END IF;
            given := jsonb_set(given, ARRAY[name], to_jsonb(trunc(ns)::bigint));
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION '% is %, which cannot be', name, quote_literal(left(value, 100))
                USING ERRCODE = 'STB04', HINT = CASE WHEN name LIKE 'max%'
                    THEN 'It is a length of time: 24h, 7 days; 0 is unlimited.'
                    ELSE 'It is a time such as 2026-11-29T14:00:00Z, or how long ago it was: 90 min, 2h.' END;
        END;
    END LOOP;
    is_first := NOT EXISTS (SELECT FROM admin_requests);
    INSERT INTO admin_requests (verb, arguments, dry_run) VALUES ($1, given, coalesce($3, false)) RETURNING id INTO new_id;
    IF is_first THEN
        -- Until then no server looks.
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
    RETURN new_id;
END $$;
