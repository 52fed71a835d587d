-- Saved questions: who sees which, how one is asked, how its answer is waited for. Workers answer them; see
-- geosearch/worker. Advisory locks (two keys): (1735458816, id of a question) while it is worked at,
-- (1735458817, 0) shared by every worker that listens.
drop procedure if exists geosearch.ask_and_wait;
drop function if exists geosearch.wait;
drop function if exists geosearch.ask;
drop function if exists geosearch.questions_before;
drop function if exists geosearch.listening_workers;

-- Whose rows. The owner and superusers are not subject to it, so that a dump is whole.
alter table geosearch.query enable row level security;
alter table geosearch.ranking enable row level security;
drop policy if exists query_see on geosearch.query;
drop policy if exists query_ask on geosearch.query;
drop policy if exists query_cancel on geosearch.query;
drop policy if exists query_serve on geosearch.query;
drop policy if exists ranking_see on geosearch.ranking;
drop policy if exists ranking_serve on geosearch.ranking;
create policy query_see on geosearch.query for select using (asked_by = current_user);
create policy query_ask on geosearch.query for insert with check (asked_by = current_user and state = 'waiting');
create policy query_cancel on geosearch.query for delete using (asked_by = current_user);
-- The groups are named in an expression, not as the policy's roles: a dump then restores on a server without them.
create policy query_serve on geosearch.query
    using ((select pg_has_role(current_user, 'geosearch_ingest', 'usage')
                or pg_has_role(current_user, 'geosearch_admin', 'usage')));
create policy ranking_see on geosearch.ranking for select
    using (query_id in (select q.id from geosearch.query q where q.asked_by = current_user));
create policy ranking_serve on geosearch.ranking
    using ((select pg_has_role(current_user, 'geosearch_ingest', 'usage')
                or pg_has_role(current_user, 'geosearch_admin', 'usage')));

-- Workers sleep until they are called: at a new question, however it was inserted, and at new images.
create or replace function geosearch.call_workers()
returns trigger
language plpgsql
set search_path from current
as $$
begin
    perform pg_catalog.pg_notify(tg_argv[0], '');
    return null;
end $$;
comment on function geosearch.call_workers is 'Trigger: calls the workers that listen, on the channel it is given.';
drop trigger if exists query_call_workers on geosearch.query;
drop trigger if exists image_call_workers on geosearch.image;
create trigger query_call_workers after insert on geosearch.query
    for each statement execute function geosearch.call_workers('geosearch_query');
create trigger image_call_workers after insert or update on geosearch.image
    for each statement execute function geosearch.call_workers('geosearch_image');

create function geosearch.listening_workers()
returns int
language sql
stable
parallel restricted
set search_path from current
as $$
    -- Anybody may take an advisory lock; only those who may answer are counted.
    select count(distinct l.pid)::int
    from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.classid = 1735458817 and l.objid = 0 and l.objsubid = 2 and l.granted
      and l.mode = 'ShareLock'
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and (pg_has_role(a.usesysid, 'geosearch_ingest', 'usage') or pg_has_role(a.usesysid, 'geosearch_admin', 'usage')
           or pg_has_role(a.usesysid, (select c.relowner from pg_catalog.pg_class c
                                       where c.oid = 'geosearch.query'::regclass), 'usage'))
$$;
comment on function geosearch.listening_workers is 'How many workers listen for questions to this database.';

-- With the owner's rights, since an asker does not see the questions of others; it learns their number alone.
create function geosearch.questions_before(id bigint)
returns bigint
language sql
stable
security definer
parallel restricted
set search_path from current
as $$
    select count(*) from geosearch.query q
    where q.state in ('waiting', 'working') and q.id < questions_before.id
$$;
comment on function geosearch.questions_before is 'How many questions, of everybody, are to be answered before this one.';

create function geosearch.ask(
    text text default null, image bytea default null, image_uri text default null, "like" bigint default null,
    near geography default null, radius_m float8 default 2500000, k int default 10, lambda float8 default null,
    archive text default null, captured_from timestamptz default null, captured_to timestamptz default null,
    among bigint[] default null, space text default null, strategy text default 'auto')
returns bigint
language plpgsql
volatile
set search_path from current
as $$
declare
    question bigint;
begin
    -- What would fail later is refused here, where the asker hears of it; a worker looks at everything again.
    if num_nonnulls(text, image, image_uri, "like") = 0 then
        raise invalid_parameter_value using
            message = 'nothing is asked for',
            hint = 'Give text => ''snow-covered mountains'', or a picture: image, image_uri or like.';
    elsif num_nonnulls(image, image_uri, "like") > 1 then
        raise invalid_parameter_value using
            message = 'two pictures are given', hint = 'Give one of image, image_uri and like, with or without text.';
    elsif text !~ '[^[:space:]]' then
        raise invalid_parameter_value using message = 'the text is empty', hint = 'Leave it out, or write some words.';
    elsif length(text) > 10000 or length(image_uri) > 2000 or octet_length(image) > 20971520
        or cardinality(among) > 100000 or st_npoints(near::geometry) > 10000
    then
        raise invalid_parameter_value using
            message = 'the question is too large',
            hint = 'At most: text 10 000 characters, image_uri 2 000, image 20 MiB, among 100 000 ids, '
                   'near 10 000 points.';
    elsif octet_length(image) = 0 or image_uri = '' then
        raise invalid_parameter_value using message = 'the picture is empty', hint = 'Give the bytes of an image file.';
    elsif st_isempty(near::geometry) then
        raise invalid_parameter_value using
            message = 'near is an empty geography', hint = 'Give a place, or null for the whole Earth.';
    elsif radius_m is null or not (radius_m >= 0 and radius_m < 'infinity') then
        raise invalid_parameter_value using
            message = format('radius_m is %s', coalesce(radius_m::text, 'null')),
            hint = 'Give metres, 0 or more; leave out near to search the whole Earth.';
    elsif k is null or k not between 1 and 10000 then
        raise invalid_parameter_value using
            message = format('k is %s', coalesce(k::text, 'null')), hint = 'Ask for 1 to 10000 images.';
    elsif not lambda between 0 and 1 then  -- NaN is greater than all numbers
        raise invalid_parameter_value using
            message = format('lambda is %s', lambda),
            hint = 'Give 0 (the picture alone) to 1 (the text alone); leave it out for the default of the space''s model.';
    elsif captured_from >= captured_to then
        raise invalid_parameter_value using
            message = format('no time lies from %s until before %s', captured_from, captured_to),
            hint = 'captured_from is the first moment, captured_to the first one after the last.';
    elsif strategy is null or strategy not in ('auto', 'exact', 'hnsw') then
        raise invalid_parameter_value using
            message = format('no strategy is named %L', strategy), hint = 'Use auto, exact or hnsw.';
    elsif space is not null and not exists (select from geosearch.space s where s.name = ask.space) then
        raise undefined_object using
            message = format('no space is named %L', space),
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet; geosearch.create_space makes one') || '.';
    elsif archive is not null and not exists (select from geosearch.archive a where a.name = ask.archive) then
        raise undefined_object using
            message = format('no archive is named %L', archive),
            hint = 'Archives: ' || coalesce((select string_agg(a.name, ', ' order by a.name) from geosearch.archive a),
                                            'none yet') || '.';
    end if;
    insert into geosearch.query as q (
        text, image, image_uri, "like", near, radius_m, k, lambda, archive, captured_from, captured_to, among, space,
        strategy)
    values (
        ask.text, ask.image, ask.image_uri, ask."like", ask.near, ask.radius_m, ask.k, ask.lambda, ask.archive,
        ask.captured_from, ask.captured_to, ask.among, ask.space, ask.strategy)
    returning q.id into question;
    return question;
end $$;
comment on function geosearch.ask is
    'Saves a question for the workers, and returns its id at once. It is seen when the transaction commits.';

create function geosearch.wait(id bigint, timeout_s float8 default 30)
returns int
language plpgsql
volatile
set search_path from current
as $$
declare
    question record;
    give_up timestamptz;
    pause float8 := 0.01;
    before bigint;
begin
    if timeout_s is null or not timeout_s between 0 and 86400 then
        raise invalid_parameter_value using
            message = format('timeout_s is %s', coalesce(timeout_s::text, 'null')),
            hint = 'Give seconds, from 0 to 86400.';
    elsif current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise active_sql_transaction using
            message = format('a transaction under %s never sees an answer that comes while it lasts',
                             upper(current_setting('transaction_isolation'))),
            hint = 'Wait in a transaction of its own, under READ COMMITTED.';
    end if;
    give_up := clock_timestamp() + make_interval(secs => timeout_s);
    loop
        -- A volatile function under READ COMMITTED: each statement sees what was committed before it.
        select q.state, q.reason, q.answers, q.asked_in into question
        from geosearch.query q where q.id = wait.id;
        if not found then
            raise no_data_found using
                message = format('there is no question %s of yours', coalesce(id::text, 'null')),
                hint = 'geosearch.ask returns the id; a question that was deleted is gone.';
        elsif question.state = 'done' then
            return question.answers;
        elsif question.state = 'failed' then
            raise raise_exception using
                message = format('question %s failed: %s', id, question.reason),
                hint = 'Mend it and ask again.';
        elsif question.asked_in = pg_current_xact_id_if_assigned()::text::bigint then
            raise active_sql_transaction using
                message = format('question %s was asked in this very transaction: no worker sees it yet', id),
                hint = 'This error takes the question back with the transaction. Ask again, commit, and only then wait.';
        end if;
        exit when clock_timestamp() >= give_up;
        perform pg_sleep(least(pause, greatest(0.001, extract(epoch from give_up - clock_timestamp()))));
        pause := least(pause * 1.5, 0.2);
    end loop;
    if geosearch.listening_workers() = 0 then
        raise query_canceled using
            message = format('question %s is not answered after %s s: no worker is listening', id, timeout_s),
            hint = format('Start `geosearch worker`; the question is kept. Then: select geosearch.wait(%s);', id);
    end if;
    before := geosearch.questions_before(id);
    raise query_canceled using
        message = format('question %s is not answered after %s s: %s', id, timeout_s,
            case when question.state = 'working' then 'a worker is at it'
                 when before = 1 then '1 question is before it'
                 else before || ' questions are before it' end),
        hint = format('It is kept. Wait longer: select geosearch.wait(%s, %s);', id, greatest(60, 2 * timeout_s));
end $$;
comment on function geosearch.wait is
    'Waits for the answer to a question and returns the number of images found. Not in the transaction that asked.';

-- No SET clause and not the owner's rights: a procedure with either may not commit. Every name below is a full one.
create procedure geosearch.ask_and_wait(
    text text default null, image bytea default null, image_uri text default null, "like" bigint default null,
    near geography default null, radius_m float8 default 2500000, k int default 10, lambda float8 default null,
    archive text default null, captured_from timestamptz default null, captured_to timestamptz default null,
    among bigint[] default null, space text default null, strategy text default 'auto', timeout_s float8 default 30,
    inout id bigint default null)
language plpgsql
as $$
declare
    barred pg_catalog.text;
    heard pg_catalog.text;
begin
    -- Whether this may commit, before anything is saved. Within a block that handles errors a commit always fails, but
    -- with another message than within a transaction block; a DO block run by EXECUTE shows what that one reads here.
    begin
        execute 'do ''begin commit; end''';
    exception when invalid_transaction_termination then
        get stacked diagnostics barred = message_text;
    end;
    begin
        commit;
    exception when invalid_transaction_termination then
        get stacked diagnostics heard = message_text;
    end;
    if heard is not distinct from barred then
        raise invalid_transaction_termination using
            message = 'ask_and_wait commits the question, which a transaction block, a function and a string of several '
                      'statements do not allow',
            hint = 'Take two steps: select geosearch.ask(...); commit; then select geosearch.wait(id);';
    elsif pg_catalog.current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise active_sql_transaction using
            message = pg_catalog.format('a transaction under %s never sees an answer that comes while it lasts',
                pg_catalog.upper(pg_catalog.current_setting('transaction_isolation'))),
            hint = 'set default_transaction_isolation = ''read committed''; then call again.';
    elsif timeout_s is null or not timeout_s between 0 and 86400 then
        -- What wait would refuse as well, when the question is saved and its id lost with the error.
        raise invalid_parameter_value using
            message = pg_catalog.format('timeout_s is %s', coalesce(timeout_s::pg_catalog.text, 'null')),
            hint = 'Give seconds, from 0 to 86400. Nothing was asked.';
    end if;
    id := geosearch.ask(
        text => text, image => image, image_uri => image_uri, "like" => "like", near => near, radius_m => radius_m,
        k => k, lambda => lambda, archive => archive, captured_from => captured_from, captured_to => captured_to,
        among => among, space => space, strategy => strategy);
    commit;
    perform geosearch.wait(id, timeout_s);
end $$;
comment on procedure geosearch.ask_and_wait is
    'Asks and waits, where each statement commits by itself. id comes back; the answers are in geosearch.ranked_image.';

revoke all on function
    geosearch.call_workers, geosearch.listening_workers, geosearch.questions_before, geosearch.ask, geosearch.wait
    from public;
revoke all on procedure geosearch.ask_and_wait from public;
grant execute on function geosearch.listening_workers
    to geosearch_admin, geosearch_ingest, geosearch_ask, geosearch_read;
grant execute on function geosearch.questions_before, geosearch.ask, geosearch.wait to geosearch_ask;
grant execute on procedure geosearch.ask_and_wait to geosearch_ask;
