-- What is done with RANGE embeddings: the images that look like what a place lets expect, and how late stored ones are.
drop function if exists geosearch.range_state;
drop function if exists geosearch.range_similar;

create function geosearch.range_similar(
    bank text, place geography, k int default 10, beta float8 default 0.5, tau_sem float8 default null,
    tau_geo float8 default 40, min_cos float8 default null, mode text default 'soft', mode_k int default 100,
    near geography default null, radius_m float8 default 2500000, archive text default null, space text default null,
    strategy text default 'auto')
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language plpgsql
stable
parallel unsafe
rows 10
set search_path from current
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(bank);
    found_space geosearch.space;
    spaces text[];
begin
    -- The lock on images first, then those on the bank: drop_bank takes them in this order, and would be a deadlock.
    perform from geosearch.image i where false;
    if space is null then
        select array[s.name] into spaces from geosearch.space s where s.id = found_bank.value_space_id;
        if spaces is null then
            select array_agg(s.name order by s.name) into spaces
            from geosearch.space s join geosearch.model m on m.id = s.model_id
            where s.active and m.name = found_bank.value_model and s.dimension = found_bank.value_dimension;
        end if;
        if cardinality(spaces) = 1 then
            space := spaces[1];
        else
            raise undefined_object using
                message = case when spaces is null
                    then format('no active space holds vectors like the values of bank %s', bank)
                    else format('several spaces hold vectors like the values of bank %s', bank) end,
                hint = format('Give space => a space of %s dimensions%s%s.', found_bank.value_dimension,
                    ', made by ' || found_bank.value_model, ': ' || array_to_string(spaces, ', '));
        end if;
    end if;
    found_space := geosearch.space_of(space);
    if found_space.dimension <> found_bank.value_dimension then
        raise data_exception using
            message = format('the values of bank %s have %s dimensions, the vectors of space %s %s', bank,
                             found_bank.value_dimension, space, found_space.dimension),
            hint = 'Give the space of the model that made the values.';
    end if;
    return query select s.* from geosearch.search(
        space,
        subvector(geosearch.range_embedding(bank, place, beta, tau_sem, tau_geo, min_cos, mode, mode_k),
                  1, found_bank.value_dimension),
        near, radius_m, k, archive, strategy) s;
end $$;
comment on function geosearch.range_similar is
    'The k images whose vectors in the space of the values are nearest to what RANGE expects at a place, best first: '
    'geosearch.search with that value. mode_k is the k of range_embedding.';

create function geosearch.range_state(bank text)
returns table (images bigint, stored bigint, stored_at timestamptz, changed boolean)
language plpgsql
stable
parallel safe
rows 1
set search_path from current
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(bank);
begin
    return query execute format(
        'select (select count(*) from geosearch.image i where i.footprint is not null or i.nadir is not null),'
        ' (select count(*) from geosearch.%I), $1,'
        ' $1 is null or geosearch.change_count(''image'') is distinct from $2', 'range_' || bank || '_stored')
        using found_bank.stored_at, found_bank.stored_changes;
end $$;
comment on function geosearch.range_state is
    'How many images have a place, how many embeddings are stored by a bank and since when, and whether images were '
    'added, removed or moved since.';

revoke all on function geosearch.range_similar, geosearch.range_state from public;
grant execute on function geosearch.range_similar, geosearch.range_state
    to geosearch_admin, geosearch_ingest, geosearch_read;
