-- The way that most systems number: an ordinary sequence, taken before the commit and not held to it. Two writers commit
-- in another order than they were numbered in, and a reader that came between them has passed over a number for ever. The
-- pause makes visible in seconds what would take hours.
CREATE SEQUENCE fanfare.numbers;

CREATE OR REPLACE FUNCTION fanfare.append(
    p_lane bigint,
    p_n bigint,
    p_names text[],
    p_counts int[],
    p_channels int[],
    p_ids uuid[],
    p_data bytea[],
    p_infos bytea[],
    p_tags bytea[],
    p_keys bytea[],
    OUT heads bigint[],
    OUT batch_time bigint,
    OUT key_seqs bigint[],
    OUT key_times bigint[],
    OUT contended int[],
    OUT waited bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_channel int;
    v_last bigint;
BEGIN
    PERFORM FROM fanfare.lanes WHERE id = p_lane AND NOT retired FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % was retired', p_lane USING ERRCODE = 'FF001';
    END IF;

    INSERT INTO fanfare.channels (name, namespace)
    SELECT name, split_part(name, ':', 1) FROM unnest(p_names) AS name
    WHERE NOT EXISTS (SELECT FROM fanfare.channels known WHERE known.name = name.name)
    ON CONFLICT (name) DO NOTHING;

    SELECT array_agg(id ORDER BY name), fanfare.now_ms() INTO v_ids, batch_time
    FROM fanfare.channels WHERE name = ANY (p_names);

    -- So many numbers in a row for each channel; nobody waits for the commit. (The tests use one channel.)
    FOR v_channel IN 1 .. cardinality(v_ids) LOOP
        PERFORM pg_advisory_lock(4711);
        FOR v_draft IN 1 .. p_counts[v_channel] LOOP
            v_last := nextval('fanfare.numbers');
        END LOOP;
        PERFORM pg_advisory_unlock(4711);
        heads[v_channel] := v_last - p_counts[v_channel];
    END LOOP;
    PERFORM pg_sleep(random() * 0.05);

    INSERT INTO fanfare.publications (channel, seq, id, time, data, info, tags)
    SELECT v_ids[draft.channel],
           heads[draft.channel] + row_number() OVER (PARTITION BY draft.channel ORDER BY draft.place),
           draft.id, batch_time, draft.data, draft.info, draft.tags
    FROM unnest(p_channels, p_ids, p_data, p_infos, p_tags)
        WITH ORDINALITY AS draft (channel, id, data, info, tags, place);

    UPDATE fanfare.channels
    SET head = greatest(channels.head, added.head + added.count), last_time = batch_time
    FROM unnest(v_ids, heads, p_counts) AS added (id, head, count)
    WHERE channels.id = added.id;

    INSERT INTO fanfare.lane_log (lane, n, time, channels, firsts, lasts)
    SELECT p_lane, p_n, batch_time, array_agg(added.name), array_agg(added.head + 1),
           array_agg(added.head + added.count)
    FROM unnest(p_names, heads, p_counts) AS added (name, head, count);
END
$$;
