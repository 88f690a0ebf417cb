-- A batch of a few drafts takes a way of its own: at a low rate, and on many nodes, nearly every batch is one, and statements that
-- work on arrays cost more to begin than they do then. That which looks the keys up was planned anew for each batch besides, since
-- the planner takes an array of two for cheaper than one that it does not know.
--
-- What is locked, looked up and written is the same, and so is the order. As it was but for that.
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
    v_counts int[] := p_counts;
    v_channel int;
    v_known int;
    v_before bigint[];
    v_asked_at timestamptz;
    v_id bigint;
    v_head bigint;
    v_seq bigint;
    v_time bigint;
    v_names text[];
    v_firsts bigint[];
    v_lasts bigint[];
BEGIN
    PERFORM FROM fanfare.lanes WHERE id = p_lane AND NOT retired FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % was retired', p_lane USING ERRCODE = 'FF001';
    END IF;

    -- One channel, which is there and in nobody's hands: nothing to make, and nobody to have waited for. What somebody holds is
    -- skipped here and waited for below.
    IF cardinality(p_names) = 1 THEN
        SELECT id, head, last_time INTO v_id, v_head, v_time
        FROM fanfare.channels WHERE name = p_names[1] FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            v_ids := ARRAY[v_id];
            heads := ARRAY[v_head];
            batch_time := greatest(fanfare.now_ms(), v_time);
        END IF;
    END IF;

    IF v_ids IS NULL THEN
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
    END IF;

    -- From here on as for more of them below, but one draft after the other.
    IF cardinality(p_channels) <= 8 THEN
        v_counts := array_fill(0, ARRAY[cardinality(p_names)]);
        FOR i IN 1 .. cardinality(p_channels) LOOP
            v_channel := p_channels[i];
            IF p_keys IS NOT NULL THEN
                SELECT seq, time INTO v_seq, v_time
                FROM fanfare.idempotency_keys WHERE channel = v_ids[v_channel] AND key = p_keys[i];
                key_seqs[i] := v_seq;
                key_times[i] := v_time;
                CONTINUE WHEN v_seq IS NOT NULL;
            END IF;
            v_counts[v_channel] := v_counts[v_channel] + 1;
            v_seq := heads[v_channel] + v_counts[v_channel];
            IF p_keys[i] IS NOT NULL THEN
                INSERT INTO fanfare.idempotency_keys (channel, key, seq, time)
                VALUES (v_ids[v_channel], p_keys[i], v_seq, batch_time);
            END IF;
            INSERT INTO fanfare.publications (channel, seq, id, time, data, info, tags)
            VALUES (v_ids[v_channel], v_seq, p_ids[i], batch_time, p_data[i], p_infos[i], p_tags[i]);
        END LOOP;
        FOR i IN 1 .. cardinality(p_names) LOOP
            CONTINUE WHEN v_counts[i] = 0;
            UPDATE fanfare.channels SET head = heads[i] + v_counts[i], last_time = batch_time WHERE id = v_ids[i];
            v_names := array_append(v_names, p_names[i]);
            v_firsts := array_append(v_firsts, heads[i] + 1);
            v_lasts := array_append(v_lasts, heads[i] + v_counts[i]);
        END LOOP;
        IF v_names IS NOT NULL THEN
            INSERT INTO fanfare.lane_log (lane, n, time, channels, firsts, lasts)
            VALUES (p_lane, p_n, batch_time, v_names, v_firsts, v_lasts);
        END IF;
        RETURN;
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
