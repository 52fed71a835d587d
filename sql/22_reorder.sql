-- What `geosearch space reorder` needs of the database: while it fills a second table, the first one notes whatever
-- changes. It hangs on tables and therefore is replaced, never dropped.
create or replace function geosearch.log_space_change()
returns trigger
language plpgsql
security definer
set search_path from current
as $$
begin
    if tg_op = 'TRUNCATE' then
        execute pg_catalog.format('insert into geosearch.%I (image_id) values (null)', tg_argv[0]);
    elsif tg_op = 'UPDATE' and old.image_id <> new.image_id then
        execute pg_catalog.format('insert into geosearch.%I (image_id) values ($1), ($2)', tg_argv[0])
            using old.image_id, new.image_id;
    else
        execute pg_catalog.format('insert into geosearch.%I (image_id) values ($1)', tg_argv[0])
            using case when tg_op = 'DELETE' then old.image_id else new.image_id end;
    end if;
    return null;
end $$;
comment on function geosearch.log_space_change is
    'Trigger: notes which rows of a table of vectors change while `geosearch space reorder` fills another beside it.';

revoke all on function geosearch.log_space_change from public;
