-- Location encoders: a place becomes a vector inside the database. The features of the place (spherical harmonics, or
-- Fourier features of its Equal Earth projection) are computed in float8; a dense layer is one dot product (<#>) a unit,
-- over the rows of geosearch.location_weight. PostgreSQL raises an error where a product of floats underflows, so
-- whatever is too small to matter is made 0 before it is multiplied.
drop function if exists geosearch.encode_place;
drop function if exists geosearch.spherical_harmonics;
drop function if exists geosearch.equal_earth;

create function geosearch.spherical_harmonics(lat float8, lon float8, degree int)
returns float8[]
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    -- cos and sin of the colatitude lat + 90°; sind and cosd are exact at the poles and at 0° and 180°.
    t constant float8 := case when abs(lat) < 1e-50 then 0 else -sind(lat) end;
    s constant float8 := cosd(lat);
    phi constant float8 := lon + 180;
    root constant float8 := sqrt(2::float8);
    harmonics float8[];
    sectoral float8 := sqrt(1 / (4 * pi()));
    cosine float8;
    sine float8;
    before float8;
    now float8;
    after float8;
    scale float8;
    scale_before float8;
    middle int;
begin
    if not (lat between -90 and 90) or not (lon between -180 and 180) then
        raise invalid_parameter_value using
            message = format('latitude %s, longitude %s is no place', lat, lon),
            hint = 'Give latitude within -90 … 90, then longitude within -180 … 180, in degrees.';
    elsif degree not between 1 and 40 then
        raise invalid_parameter_value using
            message = format('harmonics of degree %s are not computed', degree), hint = 'Give a degree from 1 to 40.';
    end if;
    -- Fully normalised Legendre functions, order by order, each from its two predecessors (Holmes and Featherstone 2002,
    -- eq. 11 and 13): no factorials, nothing divided by the sine, which is 0 at a pole.
    harmonics := array_fill(0::float8, array[degree * degree]);
    for m in 0 .. degree - 1 loop
        if m > 0 then
            sectoral := sectoral * s * sqrt((2 * m + 1) / (2 * m)::float8);
            if sectoral < 1e-250 then
                sectoral := 0;
            end if;
        end if;
        cosine := case m when 0 then 1 else root * cosd(m * phi) end;
        sine := root * sind(m * phi);
        before := 0;
        now := sectoral;
        scale_before := 0;
        for l in m .. degree - 1 loop
            middle := l * l + l + 1;
            harmonics[middle + m] := now * cosine;
            if m > 0 then
                harmonics[middle - m] := now * sine;
            end if;
            scale := sqrt(((l + 1) * (l + 1) - m * m) / (4 * (l + 1) * (l + 1) - 1)::float8);
            after := (t * now - scale_before * before) / scale;
            before := now;
            now := case when abs(after) < 1e-250 then 0 else after end;
            scale_before := scale;
        end loop;
    end loop;
    return harmonics;
end $$;
comment on function geosearch.spherical_harmonics is
    'The real spherical harmonics of a place: l = 0 … degree - 1, within it m = -l … l; degree² numbers.';

create function geosearch.equal_earth(lat float8, lon float8)
returns float8[]
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    theta float8;
    squared float8;
    sixth float8;
    a1 constant float8 := 1.340264;
    a2 constant float8 := -0.081106;
    a3 constant float8 := 0.000893;
    a4 constant float8 := 0.003796;
    size constant float8 := 66.50336 / 180;
begin
    if not (lat between -90 and 90) or not (lon between -180 and 180) then
        raise invalid_parameter_value using
            message = format('latitude %s, longitude %s is no place', lat, lon),
            hint = 'Give latitude within -90 … 90, then longitude within -180 … 180, in degrees.';
    end if;
    -- Equal Earth (Šavrič, Patterson and Jenny 2018, eq. 1 to 3), with GeoCLIP's scale and its longitude in radians.
    theta := case when abs(lat) < 1e-50 then 0 else asin(sqrt(3::float8) / 2 * sind(lat)) end;
    squared := theta * theta;
    sixth := squared * squared * squared;
    return array[
        case when abs(lon) < 1e-50 then 0 else size * 2 * sqrt(3::float8) * radians(lon) * cos(theta)
            / (3 * (9 * a4 * sixth * squared + 7 * a3 * sixth + 3 * a2 * squared + a1)) end,
        size * theta * (a4 * sixth * squared + a3 * sixth + a2 * squared + a1)];
end $$;
comment on function geosearch.equal_earth is
    'A place in the Equal Earth projection: x within ±1, y within ±0.49, as GeoCLIP scales it.';

-- Its settings keep the plan of a layer, which is a walk along the key, and make no other one worth a thought: the rows
-- come in the order of their units, and what is planned once serves every call.
create function geosearch.encode_place(model text, place geography)
returns vector
language plpgsql
stable
parallel safe
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    shape constant geometry := place::geometry;
    lat constant float8 := case when geometrytype(shape) = 'POINT' then st_y(shape) end;
    lon constant float8 := case when geometrytype(shape) = 'POINT' then st_x(shape) end;
    encoder record;
    last_net int;
    last_layer int;
    inputs int;
    sines boolean;
    whole boolean := false;
    w0 float8;
    spot float8[];
    cosines float8[];
    features float8[];
    x vector;
    total vector;
begin
    if (lat between -90 and 90 and lon between -180 and 180 and st_srid(shape) = 4326) is not true then
        raise invalid_parameter_value using
            message = case when place is null then 'the place is null'
                when geometrytype(shape) <> 'POINT' then format('the place is a %s', geometrytype(shape))
                when st_isempty(shape) then 'the place is empty'
                when st_srid(shape) <> 4326 then format('the place has SRID %s', st_srid(shape))
                else 'the place has a coordinate that is not a number' end,
            hint = 'Give a point on WGS 84: st_makepoint(lon, lat)::geography.';
    end if;
    select m.id, m.family, m.dimension, m.preprocessing -> 'network' as network into encoder
    from geosearch.model m where m.name = encode_place.model;
    if encoder.network is null or encoder.family not in ('satclip', 'geoclip') then
        raise undefined_object using
            message = case when encoder.id is null then format('no location encoder is named %L', model)
                           else format('model %L is no location encoder', model) end,
            hint = format('Location encoders here: %s. `geosearch model install-sql NAME` brings another one in.',
                coalesce((select string_agg(m.name, ', ' order by m.name) from geosearch.model m
                          where m.family in ('satclip', 'geoclip')
                            and exists (select from geosearch.location_weight w where w.model_id = m.id)), 'none yet'));
    end if;
    select w.net into last_net from geosearch.location_weight w
    where w.model_id = encoder.id order by w.net desc limit 1;
    sines := encoder.family = 'satclip';
    if sines then
        features := geosearch.spherical_harmonics(lat, lon, (encoder.network ->> 'degree')::int);
    else
        spot := geosearch.equal_earth(lat, lon);
    end if;

    for n in 0 .. coalesce(last_net, -1) loop
        if not sines then
            -- As vectors, the products of frequencies up to 1 000 and the place would be single precision.
            select array_agg(cos(f.angle)), array_agg(sin(f.angle)) into cosines, features
            from (select 2 * pi() * (b.frequency[1] * spot[1] + b.frequency[2] * spot[2]) as angle
                  from (select w.weights::real[]::float8[] as frequency from geosearch.location_weight w
                        where w.model_id = encoder.id and w.net = n::smallint and w.layer = 0::smallint
                        order by w.unit offset 0) b offset 0) f;
            features := cosines || features;
        end if;
        x := features::vector;
        select w.layer into last_layer from geosearch.location_weight w
        where w.model_id = encoder.id and w.net = n::smallint order by w.layer desc limit 1;
        for k in case when sines then 0 else 1 end .. coalesce(last_layer, 0) loop
            -- Where a weight is missing, lengths differ; pgvector would say so without saying of what.
            select vector_dims(w.weights) into inputs from geosearch.location_weight w
            where w.model_id = encoder.id and w.net = n::smallint and w.layer = k::smallint order by w.unit limit 1;
            whole := coalesce(inputs = vector_dims(x), false);
            exit when not whole;
            if k = last_layer then
                x := array(select w.bias - (w.weights <#> x) from geosearch.location_weight w
                           where w.model_id = encoder.id and w.net = n::smallint and w.layer = k::smallint
                           order by w.unit)::vector;
            elsif sines then
                w0 := (encoder.network ->> case k when 0 then 'first_w0' else 'w0' end)::float8;
                x := array(select sin(w0 * (w.bias - (w.weights <#> x))) from geosearch.location_weight w
                           where w.model_id = encoder.id and w.net = n::smallint and w.layer = k::smallint
                           order by w.unit)::vector;
            else
                x := array(select greatest(0, w.bias - (w.weights <#> x)) from geosearch.location_weight w
                           where w.model_id = encoder.id and w.net = n::smallint and w.layer = k::smallint
                           order by w.unit)::vector;
            end if;
        end loop;
        whole := coalesce(whole and vector_dims(x) = encoder.dimension, false);
        exit when not whole;
        total := case when total is null then x else total + x end;
    end loop;
    if not whole then
        raise no_data_found using
            message = format('the weights of %s are not in this database, or not whole', model),
            hint = 'Bring them in: geosearch model install-sql ' || model || '.';
    elsif vector_norm(total) = 0 then
        raise data_exception using
            message = format('%s has no direction for latitude %s, longitude %s', model, lat, lon),
            hint = 'Its weights make a vector of length 0 of this place.';
    end if;
    return l2_normalize(total);
end $$;
comment on function geosearch.encode_place is
    'The vector of length 1 that a location encoder of this database makes of a point.';

revoke all on function geosearch.spherical_harmonics, geosearch.equal_earth, geosearch.encode_place from public;
grant execute on function geosearch.spherical_harmonics, geosearch.equal_earth, geosearch.encode_place
    to geosearch_admin, geosearch_ingest, geosearch_read;
