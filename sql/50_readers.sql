-- Logins that may only read. Membership of geosearch_read gives the rights; limits such as a timeout are settings, and
-- PostgreSQL applies those of the login itself, never those of a group, so they are set on each login.
drop function if exists geosearch.grant_read;

create function geosearch.grant_read(login text, statement_timeout interval default '30 seconds')
returns void
language plpgsql
set search_path from current
as $$
declare
    role pg_catalog.pg_roles;
begin
    select r.* into role from pg_catalog.pg_roles r where r.rolname = login;
    if not found or not role.rolcanlogin then
        raise undefined_object using
            message = format('no role %L can log in', login),
            hint = format('Make it first: create role %I login;', coalesce(login, 'name'));
    elsif role.rolsuper then
        raise invalid_parameter_value using
            message = format('%L is a superuser, whom no grant limits', login), hint = 'Use an ordinary login.';
    elsif statement_timeout is null or statement_timeout <= interval '0' then
        raise invalid_parameter_value using
            message = 'the statement timeout must be longer than 0', hint = 'For example: interval ''30 seconds''.';
    end if;
    execute format('grant geosearch_read to %I', login);
    execute format('alter role %I in database %I set default_transaction_read_only = on', login, current_database());
    execute format('alter role %I in database %I set statement_timeout = %L', login, current_database(),
                   ceil(extract(epoch from statement_timeout) * 1000)::bigint::text);
end $$;
comment on function geosearch.grant_read is
    'Lets a login search and open the views of this database, read-only and with a statement timeout from its next '
    'connection on. Called by a superuser, or by a role that may grant geosearch_read and alter that login.';
revoke all on function geosearch.grant_read from public;
grant execute on function geosearch.grant_read to geosearch_admin;
