-- What a row of vectors knows of its image: where it lies, of which archive and when. Triggers on the space tables fill
-- it in, a trigger on geosearch.image keeps it up, so that whoever writes need not know. They hang on tables and
-- therefore are replaced, never dropped.
create or replace function geosearch.fill_space_row()
returns trigger
language plpgsql
set search_path from current
as $$
declare
    image record;
begin
    -- The lock lets an update of the image and a new row see each other, whichever comes first. A row that is there
    -- already is seen by refresh_space_rows, which waits for it: to lock its image as well would be a deadlock.
    -- Not for share: two that embed in two spaces and then write down what they read of the image would be another.
    if tg_op = 'INSERT' or new.image_id <> old.image_id then
        select i.archive_id, i.captured_at, i.reach_m, coalesce(i.footprint, i.nadir) as place into image
        from geosearch.image i where i.id = new.image_id for no key update;
    else
        select i.archive_id, i.captured_at, i.reach_m, coalesce(i.footprint, i.nadir) as place into image
        from geosearch.image i where i.id = new.image_id;
    end if;
    if not found then
        raise foreign_key_violation using
            message = pg_catalog.format('there is no image %s', new.image_id),
            hint = 'Catalogue it first: geosearch catalog add.';
    end if;
    new.archive_id := image.archive_id;
    new.captured_at := image.captured_at;
    new.reach_m := image.reach_m;
    if image.place is null then
        new.x := 0;
        new.y := 0;
        new.z := 0;
        new.cap := pi();
        new.core := 0;
        new.cell := 7 * 32768;
    else
        select * into new.x, new.y, new.z, new.cap, new.core from geosearch.place_cap(image.place);
        new.cell := geosearch.cell(new.x, new.y, new.z,
            case when new.cap > 2 then 'infinity' else new.cap * 6371008.77 + new.reach_m end);
    end if;
    if tg_op = 'UPDATE' and new.embedding = old.embedding then
        new.version := old.version;
    else
        new.version := pg_catalog.nextval('geosearch.version_seq');
    end if;
    if tg_nargs > 0 then
        new.code := geosearch.sign_code(new.embedding,
            (select s.centre from geosearch.space s where 'space_' || s.name = tg_table_name));
    end if;
    return new;
end $$;
comment on function geosearch.fill_space_row is 'Trigger: fills in what a row of vectors knows of its image.';

create or replace function geosearch.note_extents()
returns trigger
language plpgsql
security definer
set search_path from current
as $$
declare
    found_classes int;
begin
    select bit_or(1 << (c.cell / 32768)) into found_classes from changed c;
    update geosearch.space s set extents = s.extents | found_classes
    where 'space_' || s.name = tg_table_name and s.extents & found_classes <> found_classes;
    return null;
end $$;
comment on function geosearch.note_extents is 'Trigger: notes which classes of extent a space holds, in space.extents.';

-- With the rights of whoever changes the image, who may write vectors as well. With the owner's, the functions of PostGIS
-- would be looked up for the owner in a schema where others may be allowed to make some that suit better.
create or replace function geosearch.refresh_space_rows()
returns trigger
language plpgsql
set search_path from current
as $$
declare
    space_name text;
    moved bigint[];
begin
    -- Planned anew each time: a plan kept from statements that changed a few rows would compare every row with every other
    -- where all are changed.
    execute 'select array_agg(n.id order by n.id) from new_image n join old_image o on o.id = n.id
        where (n.archive_id, n.captured_at, n.reach_m) is distinct from (o.archive_id, o.captured_at, o.reach_m)
           or n.footprint::bytea is distinct from o.footprint::bytea or n.nadir::bytea is distinct from o.nadir::bytea'
        into moved;
    if moved is not null then
        if pg_catalog.current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
            -- Vectors that others added since this transaction began could not be seen, and would keep the old place.
            raise feature_not_supported using
                message = 'the place, reach, archive and date of images change under READ COMMITTED only',
                hint = 'Begin the transaction with: begin isolation level read committed.';
        end if;
        for space_name in select s.name from geosearch.space s order by s.name loop
            -- By ascending id, as writers of vectors go: the order of a plan could lock both out.
            execute pg_catalog.format(
                'update geosearch.%1$I s set image_id = s.image_id from (select t.image_id from geosearch.%1$I t'
                ' where t.image_id = any ($1) order by t.image_id for no key update) o where s.image_id = o.image_id',
                'space_' || space_name) using moved;
        end loop;
    end if;
    return null;
end $$;
comment on function geosearch.refresh_space_rows is
    'Trigger: brings the rows of vectors up to date whose images got another place, reach, archive or date.';

drop trigger if exists refresh_space_rows on geosearch.image;
create trigger refresh_space_rows after update on geosearch.image
    referencing old table as old_image new table as new_image
    for each statement execute function geosearch.refresh_space_rows();

create or replace function geosearch.sign_code(embedding halfvec, centre halfvec)
returns bit
language sql
immutable
parallel safe
set search_path from current
as $$
    select binary_quantize(case when centre is null then embedding else l2_normalize(embedding) - centre end)
$$;
comment on function geosearch.sign_code is
    'The signs of a vector of length 1 less the centre of its space, one bit a dimension.';

-- Not maintained row by row: writers would wait for each other. An estimate that is late costs time, never an answer.
drop function if exists geosearch.count_cells;
create function geosearch.count_cells(space text)
returns bigint
language plpgsql
security definer
set search_path from current
as $$
declare
    id_of_space int;
    total bigint;
begin
    -- One at a time, by the lock that note_extents takes too: a second lock would be a deadlock after an insert.
    select s.id into id_of_space from geosearch.space s where s.name = count_cells.space for no key update;
    if not found then
        raise undefined_object using
            message = pg_catalog.format('no space is named %L', space), hint = 'List them: geosearch space list.';
    end if;
    delete from geosearch.cell_count c where c.space_id = id_of_space;
    execute pg_catalog.format(
        'insert into geosearch.cell_count (space_id, cell, images) select $1, cell, count(*) from geosearch.%I group by cell',
        'space_' || space) using id_of_space;
    select coalesce(sum(c.images), 0) into total from geosearch.cell_count c where c.space_id = id_of_space;
    update geosearch.space s set counted = total where s.id = id_of_space and s.counted is distinct from total;
    return total;
end $$;
comment on function geosearch.count_cells is
    'Counts the images of a space cell by cell, from which searches estimate their candidates, and returns how many '
    'there are. Commands that embed call it at their end.';

revoke all on function
    geosearch.fill_space_row, geosearch.note_extents, geosearch.refresh_space_rows, geosearch.sign_code,
    geosearch.count_cells
    from public;
grant execute on function geosearch.sign_code to geosearch_admin, geosearch_ingest, geosearch_read;
grant execute on function geosearch.count_cells to geosearch_admin, geosearch_ingest;
