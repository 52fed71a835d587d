-- How often something changed, so that what was computed from it knows whether it is late. Rows are only added, one for
-- each statement that changed something, so that no two writers wait for each other; the count is their sum. It differs
-- between two snapshots exactly when something was committed between them.
drop function if exists geosearch.change_count;
drop function if exists geosearch.fold_changes;

create function geosearch.change_count(subject text)
returns bigint
language sql
stable
parallel safe
set search_path from current
as $$
    select coalesce(sum(c.changes), 0)::bigint from geosearch.change c where c.subject = change_count.subject
$$;
comment on function geosearch.change_count is
    'How often a subject changed. Subject image: images were added or removed, or got another place. '
    'Subject vectors <id of a space>: vectors of it were added, removed or changed.';

-- One statement and no lock: it removes the rows that it sees and adds their sum, so whoever looks finds the same count
-- before and after, and writers are never in the way. Of two at once the second waits and finds those rows gone.
create function geosearch.fold_changes(subject text)
returns bigint
language sql
security definer
set search_path from current
as $$
    with folded as (delete from geosearch.change c where c.subject = fold_changes.subject returning c.changes),
    kept as (insert into geosearch.change (subject, changes)
             select fold_changes.subject, sum(f.changes) from folded f having count(*) > 0)
    select count(*) from folded
$$;
comment on function geosearch.fold_changes is
    'Makes one row of the rows of a subject, without changing its count, and returns how many there were.';

-- It hangs on a table and therefore is replaced, never dropped. With the owner's rights, so that nobody else need be able
-- to write the count; places are compared as bytes, for which no function of others can be called. No nested loop: the
-- plan is kept from statements that changed a few rows to one that changes all of them.
create or replace function geosearch.note_image_change()
returns trigger
language plpgsql
security definer
set search_path from current
set enable_nestloop = off
as $$
declare
    changed boolean := true;
begin
    -- A statement that touched no row, or left all places alone, is no change: cataloguing again what is there is one.
    if tg_op = 'INSERT' then
        changed := exists (select from new_image);
    elsif tg_op = 'DELETE' then
        changed := exists (select from old_image);
    elsif tg_op = 'UPDATE' then
        changed := exists (
            select from new_image n join old_image o on o.id = n.id
            where n.footprint::bytea is distinct from o.footprint::bytea
               or n.nadir::bytea is distinct from o.nadir::bytea);
    end if;
    if changed then
        insert into geosearch.change (subject, changes) values ('image', 1);
    end if;
    return null;
end $$;
comment on function geosearch.note_image_change is
    'Trigger: counts the statements that add or remove images or change their places.';

drop trigger if exists note_inserted on geosearch.image;
drop trigger if exists note_updated on geosearch.image;
drop trigger if exists note_deleted on geosearch.image;
drop trigger if exists note_truncated on geosearch.image;
create trigger note_inserted after insert on geosearch.image referencing new table as new_image
    for each statement execute function geosearch.note_image_change();
create trigger note_updated after update on geosearch.image referencing old table as old_image new table as new_image
    for each statement execute function geosearch.note_image_change();
create trigger note_deleted after delete on geosearch.image referencing old table as old_image
    for each statement execute function geosearch.note_image_change();
create trigger note_truncated after truncate on geosearch.image
    for each statement execute function geosearch.note_image_change();

-- The same for the vectors of a space, with its id as argument: by the name of the table, a transaction whose snapshot is
-- older than the space would not find it. A vector that changes gets a new version (fill_space_row), so that versions are
-- compared and not vectors; a row that only moved keeps it.
create or replace function geosearch.note_vector_change()
returns trigger
language plpgsql
security definer
set search_path from current
set enable_nestloop = off
as $$
declare
    changed boolean := true;
begin
    if tg_op = 'INSERT' then
        changed := exists (select from new_rows);
    elsif tg_op = 'DELETE' then
        changed := exists (select from old_rows);
    elsif tg_op = 'UPDATE' then
        changed := exists (
            select from new_rows n where not exists (select from old_rows o where o.version = n.version));
    end if;
    if changed then
        insert into geosearch.change (subject, changes) values ('vectors ' || tg_argv[0], 1);
    end if;
    return null;
end $$;
comment on function geosearch.note_vector_change is
    'Trigger: counts the statements that add, remove or change vectors of a space.';

revoke all on function
    geosearch.change_count, geosearch.fold_changes, geosearch.note_image_change, geosearch.note_vector_change
    from public;
grant execute on function geosearch.change_count to geosearch_admin, geosearch_ingest, geosearch_read;
grant execute on function geosearch.fold_changes to geosearch_admin, geosearch_ingest;
