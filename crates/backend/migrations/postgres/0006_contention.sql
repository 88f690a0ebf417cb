-- A batch says where it waited for others, so that a node knows which channels are worth handing to one owner; and the nodes
-- of one database have a secret, by which they know each other.

-- Created with the database, and nowhere else: whoever can read it can commit in this log anyway.
INSERT INTO fanfare.meta (key, value)
VALUES ('peers', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));

-- As it was, and besides:
--
-- contended    the channels of the batch, from 1, in which others committed while it waited for the locks; NULL when nobody did
-- waited       for how long it waited then, in microseconds
DROP FUNCTION fanfare.append(bigint, bigint, text[], int[], int[], uuid[], bytea[], bytea[], bytea[], bytea[]);

CREATE FUNCTION fanfare.append(
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
    v_counts int[] := p_counts;
    v_channel int;
    v_known int;
    v_before bigint[];
    v_asked_at timestamptz;
BEGIN
    PERFORM FROM fanfare.lanes WHERE id = p_lane AND NOT retired FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % was retired', p_lane USING ERRCODE = 'FF001';
    END IF;

    -- New channels first, in one order for all writers, before any row of a channel is locked.
    SELECT count(*), array_agg(head ORDER BY name) INTO v_known, v_before
    FROM fanfare.channels WHERE name = ANY (p_names);
    IF v_known < cardinality(p_names) THEN
        v_before := NULL;
        INSERT INTO fanfare.channels (name, namespace)
        SELECT name, CASE WHEN position(':' IN name) > 0 THEN split_part(name, ':', 1) ELSE '' END
        FROM unnest(p_names) AS name
        WHERE NOT EXISTS (SELECT FROM fanfare.channels known WHERE known.name = name.name)
        ORDER BY name
        ON CONFLICT (name) DO NOTHING;
    END IF;

    v_asked_at := clock_timestamp();

    -- From here to the commit the numbers of these channels are ours. One order for all writers: no deadlock.
    SELECT array_agg(locked.id ORDER BY locked.name), array_agg(locked.head ORDER BY locked.name),
           greatest(fanfare.now_ms(), max(locked.last_time))
    INTO v_ids, heads, batch_time
    FROM (
        SELECT id, name, head, last_time FROM fanfare.channels
        WHERE name = ANY (p_names) ORDER BY id FOR NO KEY UPDATE
    ) AS locked;

    -- A head that is not what it was before we asked for the locks: we waited for another commit in this channel.
    IF v_before <> heads THEN
        waited := floor(extract(epoch FROM clock_timestamp() - v_asked_at) * 1000000)::bigint;
        SELECT array_agg(channel.place ORDER BY channel.place) INTO contended
        FROM unnest(v_before, heads) WITH ORDINALITY AS channel (before, head, place)
        WHERE channel.before <> channel.head;
    END IF;

    -- In a statement of its own, after the locks: its snapshot has what the last holder of the locks committed.
    IF p_keys IS NOT NULL THEN
        SELECT array_agg(known.seq ORDER BY draft.place), array_agg(known.time ORDER BY draft.place)
        INTO key_seqs, key_times
        FROM unnest(p_channels, p_keys) WITH ORDINALITY AS draft (channel, key, place)
        LEFT JOIN fanfare.idempotency_keys known
            ON known.channel = v_ids[draft.channel] AND known.key = draft.key;

        FOR v_channel IN
            SELECT draft.channel FROM unnest(p_channels, key_seqs) AS draft (channel, seq)
            WHERE draft.seq IS NOT NULL
        LOOP
            v_counts[v_channel] := v_counts[v_channel] - 1;
        END LOOP;

        INSERT INTO fanfare.idempotency_keys (channel, key, seq, time)
        SELECT v_ids[fresh.channel], fresh.key, heads[fresh.channel] + fresh.rank, batch_time
        FROM (
            SELECT draft.channel, draft.key,
                   row_number() OVER (PARTITION BY draft.channel ORDER BY draft.place) AS rank
            FROM unnest(p_channels, p_keys) WITH ORDINALITY AS draft (channel, key, place)
            WHERE key_seqs[draft.place] IS NULL
        ) AS fresh
        WHERE fresh.key IS NOT NULL;
    END IF;

    INSERT INTO fanfare.publications (channel, seq, id, time, data, info, tags)
    SELECT v_ids[draft.channel],
           heads[draft.channel] + row_number() OVER (PARTITION BY draft.channel ORDER BY draft.place),
           draft.id, batch_time, draft.data, draft.info, draft.tags
    FROM unnest(p_channels, p_ids, p_data, p_infos, p_tags)
        WITH ORDINALITY AS draft (channel, id, data, info, tags, place)
    WHERE key_seqs[draft.place] IS NULL;

    UPDATE fanfare.channels SET head = channels.head + added.count, last_time = batch_time
    FROM unnest(v_ids, v_counts) AS added (id, count)
    WHERE channels.id = added.id AND added.count > 0;

    INSERT INTO fanfare.lane_log (lane, n, time, channels, firsts, lasts)
    SELECT p_lane, p_n, batch_time, array_agg(added.name), array_agg(added.head + 1),
           array_agg(added.head + added.count)
    FROM unnest(p_names, heads, v_counts) AS added (name, head, count)
    WHERE added.count > 0
    HAVING count(*) > 0;
END
$$;
