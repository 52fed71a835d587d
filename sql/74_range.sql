-- RANGE inside the database (arXiv 2502.19781, section 3). A place asks a bank with the unit vector q that the bank's
-- location encoder makes of it, and with its own unit vector x:
--     h = beta softmax(tau_sem K q) V + (1 - beta) softmax(tau_geo X x) V,    embedding = [h, q]
-- Both softmaxes are mixed into one vector of weights for each block of 2 000 places; then every row of the values, one
-- component of a block, is one dot product with it. Sums over places and over blocks are double precision.
do $$
declare
    bank text;
begin
    -- They stand on what follows, and are made again at its end.
    for bank in select b.name from geosearch.bank b loop
        execute format('drop view if exists geosearch.%I', 'range_' || bank);
    end loop;
end $$;
drop function if exists geosearch.range_embedding;
drop function if exists geosearch.range_account;
drop function if exists geosearch.range_weights;
drop function if exists geosearch.place_point;

create function geosearch.place_point(place geography)
returns geometry
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    middle record;
begin
    if geometrytype(place::geometry) = 'POINT' then
        return place::geometry;
    end if;
    select * into middle from geosearch.place_cap(place);
    return st_setsrid(st_makepoint(degrees(atan2(middle.y, middle.x)),
                                   degrees(atan2(middle.z, sqrt(middle.x ^ 2 + middle.y ^ 2)))), 4326);
end $$;
comment on function geosearch.place_point is
    'The point that stands for a place in cells and banks (geosearch.place_cap), as longitude and latitude.';

-- Reading keys is half of the time: where all places count, that is done once, and what exp gives is kept as vectors.
create function geosearch.range_weights(
    found_bank geosearch.bank, place geography, beta float8, tau_sem float8, tau_geo float8, min_cos float8, mode text,
    k int,
    out query vector, out weights vector[], out blocks int[], out mass_sem float8, out mass_geo float8, out places int)
language plpgsql
stable
parallel safe
set search_path from current
set jit = off
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    relation constant text := 'bank_' || found_bank.name;
    -- Logits, tau times cosine; in $2 … $5 tau is multiplied in, with the sign that <#> turns.
    logits constant text[] := array['$2 * (b.key <#> $1)', '(b.x * $3 + b.y * $4 + b.z * $5)'];
    -- What a softmax weighs in all; a share of 1e-9 is lost among the rest, a smaller one could underflow, an error.
    shares constant float8[] := array[case beta when 0 then 0 else greatest(beta, 1e-9) end,
                                      case beta when 1 then 0 else greatest(1 - beta, 1e-9) end];
    near_enough constant text := case when min_cos > -1 then logits[2] || ' >= $6' else 'true' end;
    -- array(select … order by) is in that order by definition; the walk along the key spares the sorting.
    of_block constant text := 'array(select %s from geosearch.%I b where b.place between g.block * 2000'
        ' and g.block * 2000 + 1999 order by b.place)';
    there boolean;
    terms text[];
    north float8;
    east float8;
    x float8;
    y float8;
    z float8;
    shift float8[];
    total float8[];
    sem vector[];
    geo vector[];
    kept record;
    chosen record;
    chosen_places int[];
    chosen_weights float8[];
    covered float8;
    dense float8[];
    block int;
begin
    tau_sem := coalesce(tau_sem, case when beta = 1 then 15 else 12 end);
    if beta is null or not beta between 0 and 1 then
        raise invalid_parameter_value using
            message = format('beta is %s', coalesce(beta::text, 'null')),
            hint = 'Give a share from 0 (near places alone: HAVER) to 1 (similar places alone: RANGE).';
    elsif not (tau_sem > 0 and tau_sem <= 1e6) or tau_geo is null or not (tau_geo > 0 and tau_geo <= 1e6) then
        raise invalid_parameter_value using
            message = format('tau_sem is %s, tau_geo is %s', tau_sem, coalesce(tau_geo::text, 'null')),
            hint = 'They multiply cosines: numbers above 0, up to 1e6. Usual are 15 or 12, and 40.';
    elsif not min_cos between -1 and 1 then
        raise invalid_parameter_value using
            message = format('min_cos is %s', min_cos),
            hint = 'It is the cosine of an angle: give a number from -1 to 1, or null for no limit.';
    elsif mode is null or mode not in ('soft', 'topk', 'top1', 'mean') then
        raise invalid_parameter_value using
            message = format('no mode is named %L', mode), hint = 'Use soft, topk, top1 or mean.';
    elsif k is null or k < 1 then
        raise invalid_parameter_value using
            message = format('k is %s', coalesce(k::text, 'null')), hint = 'Keep at least 1 place.';
    elsif found_bank.built_at is null or found_bank.places = 0 then
        raise object_not_in_prerequisite_state using
            message = format('bank %s is not finished: it has no places yet', found_bank.name),
            hint = format('Fill its tables, then: select geosearch.finish_bank(%L). Or build it from spaces: '
                          'geosearch.build_bank.', found_bank.name);
    end if;
    -- Dropped and built anew since this snapshot was taken, its rows cannot be seen.
    execute format('select exists (select from geosearch.%I b where b.place = $1)', relation)
        into there using found_bank.places - 1;
    if not there then
        raise serialization_failure using
            message = format('bank %s was built anew meanwhile, or has lost places', found_bank.name),
            hint = 'Ask again, in a new transaction; if that does not help, build it anew.';
    end if;
    query := geosearch.encode_place(found_bank.encoder, place);
    if vector_dims(query) <> found_bank.key_dimension then
        raise data_exception using
            message = format('encoder %s makes vectors of %s dimensions, the keys of bank %s have %s',
                             found_bank.encoder, vector_dims(query), found_bank.name, found_bank.key_dimension),
            hint = 'Install the encoder that the bank was built with, or build the bank anew.';
    end if;
    -- A product of float8 that underflows is an error: whatever is too small to matter is made larger, or 0.
    tau_sem := greatest(tau_sem, 1e-100);
    tau_geo := greatest(tau_geo, 1e-100);
    min_cos := case when abs(min_cos) < 1e-50 then 0 else min_cos end;
    north := case when abs(st_y(place::geometry)) < 1e-50 then 0 else radians(st_y(place::geometry)) end;
    east := case when abs(st_x(place::geometry)) < 1e-50 then 0 else radians(st_x(place::geometry)) end;
    x := tau_geo * cos(north) * cos(east);
    y := tau_geo * cos(north) * sin(east);
    z := tau_geo * sin(north);

    -- What is taken off before exp: no cosine is above 1, so tau will do, unless all are so far below it that e^-60, the
    -- least that is reckoned with, would count among them. Then, and where keys are longer than 1 or tau makes much of
    -- a thousandth, which they may be, it is the greatest logit.
    shift := array[tau_sem, tau_geo];
    terms := array[format('exp(greatest(-60, %s - $7))', logits[1]), format('exp(greatest(-60, %s - $8))', logits[2])];
    if min_cos is not null then
        terms[2] := format('case when %s then %s else 0 end', near_enough, terms[2]);
    end if;
    for attempt in 1 .. 2 loop
        if attempt = 2 or not found_bank.keys_normalised or greatest(tau_sem, tau_geo) > 300 then
            execute format('select array[%s, %s] from geosearch.%I b',
                case when beta > 0 then format('max(%s)', logits[1]) else 'null' end,
                case when beta < 1 then format('max(%s) filter (where %s)', logits[2], near_enough) else 'null' end,
                relation) into shift using query, -tau_sem, x, y, z, tau_geo * min_cos;
        end if;
        if beta < 1 and shift[2] is null then
            raise no_data_found using
                message = format('no place of bank %s lies within %s degrees of this one', found_bank.name,
                                 round(degrees(acos(min_cos))::numeric, 3)),
                hint = format('Lower min_cos, which is %s, or leave it out.', min_cos);
        elsif mode = 'soft' then
            execute format(
                'select array_agg(w.sem::vector order by w.block), array_agg(w.geo::vector order by w.block),'
                ' array_agg(w.block order by w.block), array[sum((select sum(u) from unnest(w.sem) u)),'
                ' sum((select sum(u) from unnest(w.geo) u))],'
                ' sum((select count(*) from unnest(coalesce(w.sem, w.geo)) u where u > 0))'
                ' from (select g.block, %s as sem, %s as geo from generate_series(0, $9) g (block) offset 0) w',
                case when beta > 0 then format(of_block, terms[1], relation) else 'null::float8[]' end,
                case when beta < 1 then format(of_block, terms[2], relation) else 'null::float8[]' end)
                into sem, geo, blocks, total, places
                using query, -tau_sem, x, y, z, tau_geo * min_cos, shift[1], shift[2], (found_bank.places - 1) / 2000;
        else
            execute format('select array[%s, %s] from geosearch.%I b',
                case when beta > 0 then format('sum(%s)', terms[1]) else 'null' end,
                case when beta < 1 then format('sum(%s)', terms[2]) else 'null' end, relation)
                into total using query, -tau_sem, x, y, z, tau_geo * min_cos, shift[1], shift[2];
        end if;
        exit when least(total[1], total[2]) > 1e-9;
    end loop;

    mass_sem := 1;
    mass_geo := 1;
    if mode = 'soft' then
        -- Normalised and mixed in single precision, which the products with the values are.
        select array_agg(m.weights order by m.block), array_agg(m.block order by m.block) into weights, blocks
        from (select b.block,
                     case when beta = 1 then b.sem * array_fill(shares[1] / total[1], array[vector_dims(b.sem)])::vector
                          when beta = 0 then b.geo * array_fill(shares[2] / total[2], array[vector_dims(b.geo)])::vector
                          else b.sem * array_fill(shares[1] / total[1], array[vector_dims(b.sem)])::vector
                               + b.geo * array_fill(shares[2] / total[2], array[vector_dims(b.geo)])::vector end as weights
              from unnest(sem, geo, blocks) b (sem, geo, block) offset 0) m
        where vector_norm(m.weights) > 0;
        return;
    end if;

    for softmax in 1 .. 2 loop
        continue when shares[softmax] = 0;
        execute format(
            'with best as (select b.place, %s as logit from geosearch.%I b where %s order by logit desc, b.place limit $7)'
            ' select array_agg(b.place) as places, array_agg(b.logit) as logits, max(b.logit) as first from best b',
            logits[softmax], relation, case when softmax = 2 then near_enough else 'true' end)
            into kept
            using query, -tau_sem, x, y, z, tau_geo * min_cos, case when mode = 'top1' then 1 else k end;
        select chosen_places || array_agg(p.place),
               chosen_weights || array_agg(shares[softmax] * p.weight / p.all_weights),
               least(1, sum(exp(greatest(-60, p.logit - shift[softmax]))) / total[softmax])
        into chosen_places, chosen_weights, covered
        from (select e.*, sum(e.weight) over () as all_weights
              from (select u.place, u.logit,
                           case when mode = 'topk' then exp(greatest(-60, u.logit - kept.first)) else 1 end as weight
                    from unnest(kept.places, kept.logits) u (place, logit)) e) p;
        if softmax = 1 then
            mass_sem := covered;
        else
            mass_geo := covered;
        end if;
    end loop;
    places := 0;
    for chosen in
        select c.place, sum(c.weight) as weight from unnest(chosen_places, chosen_weights) c (place, weight)
        group by c.place order by c.place
    loop
        if block is distinct from chosen.place / 2000 then
            if block is not null then
                weights := array_append(weights, dense::vector);
            end if;
            block := chosen.place / 2000;
            blocks := array_append(blocks, block);
            dense := array_fill(0::float8, array[least(2000, found_bank.places - block * 2000)]);
        end if;
        dense[chosen.place % 2000 + 1] := chosen.weight;
        places := places + 1;
    end loop;
    weights := array_append(weights, dense::vector);
end $$;
comment on function geosearch.range_weights is
    'Checks what RANGE is asked, encodes the place, and returns the weight of every place in the blocks that count. '
    'Used by range_account.';

create function geosearch.range_account(
    bank text, place geography, beta float8 default 0.5, tau_sem float8 default null, tau_geo float8 default 40,
    min_cos float8 default null, mode text default 'soft', k int default 100,
    out embedding vector, out mass_sem float8, out mass_geo float8, out places int)
language plpgsql
stable
parallel safe
cost 500000
set search_path from current
set jit = off
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(bank);
    w record;
begin
    select * into w from geosearch.range_weights(found_bank, place, beta, tau_sem, tau_geo, min_cos, mode, k);
    execute format(
        'select array_agg(h.expected order by h.component)::vector from ('
        ' select v.component, sum(-(v.values <#> w.weights)) as expected from unnest($1, $2) w (weights, block)'
        ' cross join lateral (select v.component, v.values from geosearch.%I v where v.block = w.block offset 0) v'
        ' group by v.component) h', 'bank_' || bank || '_values')
        into embedding using w.weights, w.blocks;
    embedding := embedding || w.query;
    mass_sem := w.mass_sem;
    mass_geo := w.mass_geo;
    places := w.places;
end $$;
comment on function geosearch.range_account is
    'The RANGE embedding of a place with an account of it: what share of the semantic and of the geographic softmax the '
    'places have that were kept (1 for soft, and for a softmax that beta leaves out), and how many places count.';

create function geosearch.range_embedding(
    bank text, place geography, beta float8 default 0.5, tau_sem float8 default null, tau_geo float8 default 40,
    min_cos float8 default null, mode text default 'soft', k int default 100)
returns vector
language sql
stable
parallel safe
cost 500000
set search_path from current
as $$ select a.embedding from geosearch.range_account($1, $2, $3, $4, $5, $6, $7, $8) a $$;
comment on function geosearch.range_embedding is
    'The RANGE embedding of a place by a bank: the value that similar and near places of the bank let expect there, then '
    'the unit vector of the location encoder. Defaults are RANGE+; beta => 1 is RANGE, beta => 0 HAVER.';

revoke all on function
    geosearch.place_point, geosearch.range_weights, geosearch.range_account, geosearch.range_embedding
    from public;
grant execute on function
    geosearch.place_point, geosearch.range_weights, geosearch.range_account, geosearch.range_embedding
    to geosearch_admin, geosearch_ingest, geosearch_read;

do $$
declare
    bank text;
begin
    for bank in select b.name from geosearch.bank b where b.built_at is not null loop
        perform geosearch.create_bank_view(bank);
    end loop;
end $$;
