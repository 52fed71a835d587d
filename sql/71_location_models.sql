-- How a location encoder comes into the database: a row of geosearch.model, then its weights, then a look at whether they
-- are whole. Nets, layers and units are counted from 0.
drop function if exists geosearch.check_location_model;
drop function if exists geosearch.install_location_model;

-- definition: that of the network, or an object with it under the key network and whatever else is known of the model.
create function geosearch.install_location_model(
    name text, family text, dimension int, definition jsonb, weights_sha256 text)
returns int
language plpgsql
set search_path from current
as $$
declare
    sines constant jsonb := '{"features": "spherical harmonics", "activation": "sine"}';
    fourier constant jsonb := '{"features": "fourier", "projection": "equal earth", "activation": "relu"}';
    facts constant jsonb := case when jsonb_typeof(definition) = 'object' and definition ? 'network'
        then definition else jsonb_build_object('network', definition) end;
    network constant jsonb := facts -> 'network';
    there geosearch.model;
    equal boolean;
begin
    if coalesce(name, '') = '' then
        raise invalid_parameter_value using
            message = 'a location encoder needs a name', hint = 'Give the name that geosearch model list shows.';
    elsif family is null or family not in ('satclip', 'geoclip') then
        raise invalid_parameter_value using
            message = format('no family of location encoders is named %L', family),
            hint = 'Families: geoclip, satclip.';
    elsif dimension is null or dimension not between 1 and 2000 then
        raise invalid_parameter_value using
            message = format('a location encoder cannot have %s dimensions', coalesce(dimension::text, 'null')),
            hint = 'Give a number between 1 and 2000.';
    elsif weights_sha256 is null or weights_sha256 !~ '^[0-9a-f]{64}$' then
        raise invalid_parameter_value using
            message = format('%L is no SHA-256', weights_sha256),
            hint = 'Give that of the weights: 64 digits 0-9 and a-f.';
    elsif family = 'satclip' and (network @> sines
              and jsonb_typeof(network -> 'degree') = 'number' and (network ->> 'degree') ~ '^([1-9]|[1-3]\d|40)$'
              and jsonb_typeof(network -> 'first_w0') = 'number' and jsonb_typeof(network -> 'w0') = 'number'
              and abs((network ->> 'first_w0')::numeric) between 1e-6 and 1e6
              and abs((network ->> 'w0')::numeric) between 1e-6 and 1e6) is not true then
        raise invalid_parameter_value using
            message = 'the definition is not one of SatCLIP''s kind',
            hint = format('It has %s, a degree from 1 to 40, and the numbers first_w0 and w0.', sines);
    elsif family = 'geoclip' and (network @> fourier) is not true then
        raise invalid_parameter_value using
            message = 'the definition is not one of GeoCLIP''s kind', hint = format('It has %s.', fourier);
    end if;

    insert into geosearch.model as m (name, family, weights_sha256, dimension, preprocessing)
    values (name, family, weights_sha256, dimension, facts)
    on conflict on constraint model_name_key do nothing;
    -- Waits for another one who installs it at this moment.
    select m.* into strict there from geosearch.model m where m.name = install_location_model.name for update;
    equal := (there.family, there.weights_sha256, there.dimension, there.preprocessing -> 'network')
        is not distinct from (family, weights_sha256, dimension, network);
    if there.family is distinct from 'satclip' and there.family is distinct from 'geoclip' then
        raise duplicate_object using
            message = format('%s is the name of another model, of family %s', name, coalesce(there.family, 'unknown')),
            hint = 'Give the encoder another name.';
    elsif not equal and exists (select from geosearch.bank b where b.encoder = install_location_model.name)
          and exists (select from geosearch.location_weight w where w.model_id = there.id) then
        raise object_in_use using
            message = format('another encoder is installed as %s, and banks are asked with it: %s', name,
                (select string_agg(b.name, ', ' order by b.name) from geosearch.bank b
                 where b.encoder = install_location_model.name)),
            hint = 'Give this one another name, or drop those banks first: select geosearch.drop_bank(name).';
    end if;
    delete from geosearch.location_weight w where w.model_id = there.id;
    update geosearch.model m
    set family = install_location_model.family, weights_sha256 = install_location_model.weights_sha256,
        dimension = install_location_model.dimension, revision = case when equal then m.revision end,
        preprocessing = case when equal then m.preprocessing || facts else facts end
    where m.id = there.id;
    return there.id;
end $$;
comment on function geosearch.install_location_model is
    'Names a location encoder, whose weights then come into geosearch.location_weight, and returns its id. For admins.';

create function geosearch.check_location_model(name text)
returns bigint
language plpgsql
stable
parallel safe
set search_path from current
as $$
declare
    found_model geosearch.model;
    network jsonb;
    part record;
    wrong record;
    net int := -1;
    layer int;
    inputs int;
    total bigint := 0;
    again constant text := 'Install it again: geosearch model install-sql ' || name || '.';
begin
    select m.* into found_model from geosearch.model m where m.name = check_location_model.name;
    network := found_model.preprocessing -> 'network';
    if network is null or found_model.family not in ('satclip', 'geoclip') then
        raise undefined_object using
            message = format('no location encoder is named %L', name),
            hint = 'Name it first: geosearch model install-sql NAME, or select geosearch.install_location_model(…).';
    end if;
    for part in
        select w.net, w.layer, count(*)::int as units, sum(vector_dims(w.weights) + 1) as numbers,
            min(w.unit) as first, max(w.unit) as last
        from geosearch.location_weight w where w.model_id = found_model.id
        group by w.net, w.layer order by w.net, w.layer
    loop
        if part.net <> net then
            if net >= 0 and inputs <> found_model.dimension then
                raise data_exception using
                    message = format('net %s of %s ends with %s numbers, not %s', net, name, inputs,
                                     found_model.dimension),
                    hint = again;
            end if;
            net := net + 1;
            layer := 0;
            inputs := case when found_model.family = 'geoclip' then 2 else (network ->> 'degree')::int ^ 2 end;
        end if;
        if (part.net, part.layer) <> (net, layer) then
            raise data_exception using
                message = format('net %s, layer %s of %s is missing', net, layer, name), hint = again;
        elsif part.first <> 0 or part.last <> part.units - 1 then
            raise data_exception using
                message = format('net %s, layer %s, unit %s of %s is missing', net, layer,
                    (select min(u) from generate_series(0, part.last) u where not exists (
                        select from geosearch.location_weight w where w.model_id = found_model.id
                        and w.net = part.net and w.layer = part.layer and w.unit = u)), name),
                hint = again;
        end if;
        -- vector holds finite numbers only, but a bias may be anything. What the Fourier matrix gives has no bias.
        select w.unit, vector_dims(w.weights) as length, w.bias into wrong
        from geosearch.location_weight w
        where w.model_id = found_model.id and w.net = part.net and w.layer = part.layer
          and (vector_dims(w.weights) <> inputs or not (abs(w.bias) < 'infinity')
               or found_model.family = 'geoclip' and part.layer = 0 and w.bias <> 0)
        order by w.unit limit 1;
        if found then
            raise data_exception using
                message = case when wrong.length <> inputs
                    then format('net %s, layer %s, unit %s of %s has %s weights, not %s', net, layer, wrong.unit, name,
                                wrong.length, inputs)
                    else format('net %s, layer %s, unit %s of %s has the bias %s', net, layer, wrong.unit, name,
                                wrong.bias) end,
                hint = again;
        end if;
        inputs := part.units * case when found_model.family = 'geoclip' and layer = 0 then 2 else 1 end;
        total := total + part.numbers;
        layer := layer + 1;
    end loop;
    if net < 0 then
        raise no_data_found using
            message = format('the weights of %s are not in this database', name),
            hint = 'Bring them in: geosearch model install-sql ' || name || '.';
    elsif inputs <> found_model.dimension or found_model.family = 'geoclip' and layer = 1 then
        raise data_exception using
            message = format('net %s of %s ends with %s numbers, not %s', net, name, inputs, found_model.dimension),
            hint = again;
    end if;
    return total;
end $$;
comment on function geosearch.check_location_model is
    'Refuses a location encoder whose weights are not whole, naming net, layer and unit; returns how many numbers it has.';

revoke all on function geosearch.install_location_model, geosearch.check_location_model from public;
grant execute on function geosearch.install_location_model to geosearch_admin;
grant execute on function geosearch.check_location_model to geosearch_admin, geosearch_ingest, geosearch_read;
