-- What people call to compose images and texts. The work is done by compose_best (83_compose_best.sql).
drop function if exists geosearch.compose_plan;
drop function if exists geosearch.compose;
drop function if exists geosearch.compose_parts;
drop function if exists geosearch.compose_account;
drop function if exists geosearch.compose_question;
drop function if exists geosearch.default_lambda;

create function geosearch.default_lambda(space text)
returns float8
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    found_space constant geosearch.space := geosearch.space_of(space);
begin
    -- The best of the paper's sweeps: 0.3 with CLIP, 0.6 with RemoteCLIP, whose weights open_clip may read from a file;
    -- mini-clip's is measured by `geosearch evaluate compose-earth --ground seen` (docs/evaluation-compose.md).
    return coalesce((
        select case when m.family = 'remoteclip' or m.name ~* 'remote-?clip' then 0.6
                    when m.family = 'open_clip' then 0.3
                    when m.family = 'mini-clip' then 0.8
                    else 0.5 end
        from geosearch.model m where m.id = found_space.model_id), 0.5);
end $$;
comment on function geosearch.default_lambda is
    'The weight of the text that a composed question has in a space if none is given, by the space''s model.';

create function geosearch.compose_question(
    space text, image vector, text vector, lambda float8, method text,
    out parts vector[], out weights float8[], out ranking text)
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    weight float8;
begin
    if method is null or method not in ('weicom', 'mean', 'image', 'text') then
        raise invalid_parameter_value using
            message = format('no method is named %L', method), hint = 'Use weicom, mean, image or text.';
    elsif not (lambda between 0 and 1) then  -- NaN is greater than all numbers
        raise invalid_parameter_value using
            message = format('lambda is %s', lambda),
            hint = 'It is the weight of the text, from 0 (the image alone) to 1 (the text alone).';
    elsif image is null and text is null or method = 'image' and image is null or method = 'text' and text is null then
        raise null_value_not_allowed using
            message = case when image is null and text is null then 'a composed question needs an image or a text'
                           when method = 'image' then 'method image needs the vector of an image'
                           else 'method text needs the vector of a text' end,
            hint = 'Give the vector of an image, of a text, or both.';
    end if;
    weight := case when method = 'image' or text is null then 0
                   when method = 'text' or image is null then 1
                   when method = 'mean' then coalesce(lambda, 0.5)
                   else coalesce(lambda, geosearch.default_lambda(space)) end;
    parts := case when image is null then array[text] when text is null then array[image] else array[image, text] end;
    weights := case when image is null then array[weight] when text is null then array[1 - weight]
                    else array[1 - weight, weight] end;
    ranking := case method when 'weicom' then 'weicom' else 'mean' end;
end $$;
comment on function geosearch.compose_question is
    'The parts and weights of a question that composes an image and a text. Used by the composed searches.';

create function geosearch.compose_parts(
    space text, parts vector[], weights float8[], near geography default null, radius_m float8 default 2500000,
    k int default 10, population text default 'space', strategy text default 'auto', archive text default null,
    captured_from timestamptz default null, captured_to timestamptz default null, among bigint[] default null,
    late text default 'compute', method text default 'weicom')
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language plpgsql
stable
parallel unsafe
rows 10
set search_path from current
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    best record;
begin
    select * into best from geosearch.compose_best(
        space, parts, weights, near, radius_m, k, population, strategy, archive, captured_from, captured_to, among, late,
        method);
    return query
        select b.n::int, b.id, i.name, 1 - b.tail, st_distance(coalesce(i.footprint, i.nadir), near),
               coalesce(i.footprint::geometry, i.nadir::geometry)
        from unnest(best.ids, best.tails) with ordinality b (id, tail, n)
        cross join lateral (select * from geosearch.image i where i.id = b.id offset 0) i
        order by b.n;
end $$;
comment on function geosearch.compose_parts is
    'The k images of a space that answer several images and texts at once, each with a weight, negative for what is not '
    'wanted; best first, with the filters of geosearch.search. similarity is WeiCom''s score, from 0 to 1 (method '
    'weicom), or the weighted mean of the cosines (method mean).';

create function geosearch.compose(
    space text, image vector default null, text vector default null, lambda float8 default null,
    near geography default null, radius_m float8 default 2500000, k int default 10, population text default 'space',
    strategy text default 'auto', method text default 'weicom', archive text default null,
    captured_from timestamptz default null, captured_to timestamptz default null, among bigint[] default null,
    late text default 'compute')
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language sql
stable
parallel unsafe
rows 10
set search_path from current
as $$
    select p.* from geosearch.compose_question($1, $2, $3, $4, $10) q
    cross join lateral geosearch.compose_parts(
        $1, q.parts, q.weights, $5, $6, $7, $8, $9, $11, $12, $13, $14, $15, q.ranking) p
    order by p.rank
$$;
comment on function geosearch.compose is
    'The k images of a space that answer an image and a text at once (WeiCom): lambda is the weight of the text, from 0, '
    'the image alone, to 1; the default is that of the space''s model. Best first, with the filters of geosearch.search. '
    'Baselines by method: image, text, mean; similarity is then the cosine, or the mean of both.';

create function geosearch.compose_account(
    space text, parts vector[], weights float8[], near geography, radius_m float8, k int, population text, strategy text,
    archive text, captured_from timestamptz, captured_to timestamptz, among bigint[], late text, method text,
    out ids bigint[], out tails float8[], out similarities float8[], out means float8[], out deviations float8[],
    out chosen text, out moments text, out candidates bigint, out touched bigint, out scored bigint)
language plpgsql
stable
parallel unsafe
set search_path from current
as $$
declare
    best record;
begin
    select * into best from geosearch.compose_best(
        space, parts, weights, near, radius_m, k, population, strategy, archive, captured_from, captured_to, among, late,
        method);
    ids := best.ids;
    tails := best.tails;
    similarities := best.similarities;
    means := best.means;
    deviations := best.deviations;
    chosen := best.chosen;
    moments := best.moments;
    -- Exact looks at every candidate, though it need not have counted them.
    candidates := case when best.chosen = 'exact' and best.touched is not null then best.touched
                       else (select count(*) from geosearch.candidates(
                                 space, near, radius_m, archive, captured_from, captured_to, among)) end;
    touched := coalesce(best.touched, candidates);
    scored := coalesce(best.scored, 0);
end $$;
comment on function geosearch.compose_account is
    'The answers of a composed question with an account of them: their tails (1 - score), their similarities (a list for '
    'each answer, one number for each part, null for parts of weight 0), mean and deviation of each part''s '
    'similarities, and the way they were found. Used by compose_plan and by clients that show all this.';

create function geosearch.compose_plan(
    space text, image vector default null, text vector default null, lambda float8 default null,
    near geography default null, radius_m float8 default 2500000, k int default 10, population text default 'space',
    strategy text default 'auto', method text default 'weicom', archive text default null,
    captured_from timestamptz default null, captured_to timestamptz default null, among bigint[] default null,
    late text default 'compute')
returns table (
    strategy text, population text, moments text, candidates bigint, touched bigint, scored bigint, returned int,
    exhausted boolean)
language sql
stable
parallel unsafe
rows 1
set search_path from current
as $$
    select c.chosen, $8, c.moments, c.candidates, c.touched, c.scored, coalesce(cardinality(c.ids), 0), c.candidates <= $7
    from geosearch.compose_question($1, $2, $3, $4, $10) q
    cross join lateral geosearch.compose_account(
        $1, q.parts, q.weights, $5, $6, $7, $8, $9, $11, $12, $13, $14, $15, q.ranking) c
$$;
comment on function geosearch.compose_plan is
    'What compose with the same arguments does, one row: the strategy that answered, the population of the statistics, '
    'whether the space''s moments were kept or had to be computed, how many candidates there are, for how many of them '
    'the combined similarity was computed and for how many the score, and how many images are returned, all of them '
    'where the candidates are exhausted.';

revoke all on function
    geosearch.default_lambda, geosearch.compose_question, geosearch.compose_parts, geosearch.compose,
    geosearch.compose_account, geosearch.compose_plan
    from public;
grant execute on function
    geosearch.default_lambda, geosearch.compose_question, geosearch.compose_parts, geosearch.compose,
    geosearch.compose_account, geosearch.compose_plan
    to geosearch_admin, geosearch_ingest, geosearch_read;
