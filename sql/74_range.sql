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

-- Neither a seq scan nor a bitmap gives places in their order; the walk along the key does.
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
    -- What a softmax weighs in all; so little that it counts for nothing where smaller numbers could vanish, an error.
    shares constant float8[] := array[case beta when 0 then 0 else greatest(beta, 1e-30) end,
                                      case beta when 1 then 0 else greatest(1 - beta, 1e-30) end];
    near_enough constant text := case when min_cos is null then 'true' else logits[2] || ' >= $6' end;
    shift float8[];
    total float8[];
    least_logit float8[];
    north float8;
    east float8;
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
    query := geosearch.encode_place(found_bank.encoder, place);
    if vector_dims(query) <> found_bank.key_dimension then
        raise data_exception using
            message = format('encoder %s makes vectors of %s dimensions, the keys of bank %s have %s',
                             found_bank.encoder, vector_dims(query), found_bank.name, found_bank.key_dimension),
            hint = 'Install the encoder that the bank was built with, or build the bank anew.';
    end if;
    north := radians(st_y(place::geometry));
    east := radians(st_x(place::geometry));

    -- What is taken off before exp: no cosine is above 1, and tau above that. Only where e^(-2 tau) is no number of
    -- double precision, or keys are longer, the greatest logit is looked for. exp(-746) would be an error: hence -700.
    shift := array[tau_sem, tau_geo];
    if greatest(tau_sem, tau_geo) > 300 or not found_bank.keys_normalised then
        execute format('select array[%s, %s] from geosearch.%I b',
            case when beta > 0 then format('max(%s)', logits[1]) else 'null' end,
            case when beta < 1 then format('max(%s)', logits[2]) else 'null' end, relation) into shift
            using query, -tau_sem, tau_geo * cos(north) * cos(east), tau_geo * cos(north) * sin(east), tau_geo * sin(north);
    end if;
    execute format('select array[%s, %s], %s from geosearch.%I b',
        case when beta > 0 then format('sum(exp(greatest(-700, %s - $7)))', logits[1]) else 'null' end,
        case when beta < 1 then format('sum(exp(greatest(-700, %s - $8))) filter (where %s)', logits[2], near_enough)
             else 'null' end,
        case when beta = 0 then format('count(*) filter (where %s)', near_enough) else '$9' end, relation)
        into total, places
        using query, -tau_sem, tau_geo * cos(north) * cos(east), tau_geo * cos(north) * sin(east), tau_geo * sin(north),
            tau_geo * min_cos, shift[1], shift[2], found_bank.places;
    if beta < 1 and total[2] is null then
        raise no_data_found using
            message = format('no place of bank %s lies within %s degrees of this one', found_bank.name,
                             round(degrees(acos(min_cos))::numeric, 3)),
            hint = format('Lower min_cos, which is %s, or leave it out.', min_cos);
    end if;

    mass_sem := 1;
    mass_geo := 1;
    if mode = 'soft' then
        -- Normalised, and none below e^-60: single precision would lose it anyway, and computes slowly below 1e-38.
        least_logit := array[-60 + ln(total[1] / nullif(shares[1], 0)), -60 + ln(total[2] / nullif(shares[2], 0))];
        execute format(
            'select array_agg(w.weights), array_agg(w.block) from ('
            ' select g.block, array(select %s from geosearch.%I b'
            '     where b.place between g.block * 2000 and g.block * 2000 + 1999 order by b.place)::vector as weights'
            ' from generate_series(0, $13) g (block) offset 0) w%s',
            concat_ws(' + ',
                case when beta > 0 then format('$9 * exp(greatest($11, %s - $7))', logits[1]) end,
                case when beta < 1 then format('case when %s then $10 * exp(greatest($12, %s - $8)) else 0 end',
                                               near_enough, logits[2]) end),
            relation, case when beta = 0 then ' where vector_norm(w.weights) > 0' else '' end)
            into weights, blocks
            using query, -tau_sem, tau_geo * cos(north) * cos(east), tau_geo * cos(north) * sin(east),
                tau_geo * sin(north), tau_geo * min_cos, shift[1], shift[2], shares[1] / total[1], shares[2] / total[2],
                least_logit[1], least_logit[2], (found_bank.places - 1) / 2000;
        return;
    end if;

    for softmax in 1 .. 2 loop
        continue when shares[softmax] = 0;
        execute format(
            'with best as (select b.place, %s as logit from geosearch.%I b where %s order by logit desc, b.place limit $7)'
            ' select array_agg(b.place) as places, array_agg(b.logit) as logits, max(b.logit) as first from best b',
            logits[softmax], relation, case when softmax = 2 then near_enough else 'true' end)
            into kept
            using query, -tau_sem, tau_geo * cos(north) * cos(east), tau_geo * cos(north) * sin(east),
                tau_geo * sin(north), tau_geo * min_cos, case when mode = 'top1' then 1 else k end;
        select chosen_places || array_agg(p.place),
               chosen_weights || array_agg(shares[softmax] * p.weight / p.all_weights),
               least(1, sum(exp(greatest(-700, p.logit - shift[softmax]))) / total[softmax])
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
