"""What hangs on a space's table: all of it is carried over to a new one, or refused beforehand by name."""

from __future__ import annotations

from psycopg import sql

from geosearch.database import index_build
from geosearch.database.index_session import Session
from geosearch.errors import DatabaseError

_COUNTED = ("inserted", "updated", "deleted", "truncated")


def columns_of(work: Session) -> list[str]:
    """Return the columns, after a check that nothing hangs on the table that would be lost with it."""
    conn, space = work.conn, work.space
    table = space.table.as_string(conn)
    columns = _names(work, table)
    with conn.transaction(force_rollback=True):  # what `create_space_table` makes, whatever the layout
        conn.execute("select geosearch.create_space_table('reorder_layout', %s, %s)", [space.name, space.dimension])
        mine = _names(work, "geosearch.reorder_layout")
    strange = [f"column {name}" for name in columns if name not in mine] + _dependents(work, table)
    if strange:
        raise DatabaseError(
            f"these hang on the table of space {space.name} and would be lost with it: {', '.join(strange)}. Nothing "
            "was changed. Drop them (keep their definitions: pg_get_viewdef shows that of a view), reorder, make them "
            "anew."
        )
    if missing := set(mine) - set(columns):
        raise DatabaseError(f"the table of space {space.name} lacks {', '.join(sorted(missing))}: geosearch db migrate")
    return columns


def _names(work: Session, table: str) -> list[str]:
    rows = work.conn.execute(
        "select attname from pg_catalog.pg_attribute where attrelid = pg_catalog.to_regclass(%s) and attnum > 0"
        " and not attisdropped order by attnum",
        [table],
    ).fetchall()
    return [str(name) for (name,) in rows]


def _dependents(work: Session, table: str) -> list[str]:
    name = f"space_{work.space.name}"
    own = {
        "pg_class": [f"{name}_pkey", f"{name}_cell_idx", f"{name}_hnsw_idx"],
        "pg_trigger": ["fill", "extents_inserted", "extents_updated", *(f"vectors_{kind}" for kind in _COUNTED)],
        "pg_constraint": [f"{name}_pkey", f"{name}_embedding_check", f"{name}_image_id_fkey"],
    }
    rows = work.conn.execute(
        """
        with old as (select pg_catalog.to_regclass(%(table)s)::oid as oid)
        select distinct case when d.classid = 'pg_rewrite'::regclass
                             then (select case v.relkind when 'm' then 'materialized view ' else 'view ' end
                                          || v.oid::regclass from pg_catalog.pg_class v where v.oid = r.ev_class)
                             else pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) end
        from pg_catalog.pg_depend d
        left join pg_catalog.pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        left join pg_catalog.pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
        left join pg_catalog.pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
        left join pg_catalog.pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
        where d.refclassid = 'pg_class'::regclass
          and d.refobjid in (select oid from old union all select i.indexrelid from pg_catalog.pg_index i, old
                             where i.indrelid = old.oid)
          and d.classid not in ('pg_attrdef'::regclass, 'pg_type'::regclass)
          and not coalesce(c.relkind = 't' or c.relname = any (%(indexes)s), false)
          and not coalesce(t.tgisinternal or t.tgname = any (%(triggers)s), false)
          and not coalesce(k.conrelid = (select oid from old) and k.conname = any (%(constraints)s), false)
        order by 1
        """,
        {
            "table": table,
            "indexes": own["pg_class"],
            "triggers": own["pg_trigger"],
            "constraints": own["pg_constraint"],
        },
    ).fetchall()
    return [str(text) for (text,) in rows]


def present_index(work: Session) -> dict[str, int] | None:
    """Return the options of the index that the space has, or should have; None where there is none."""
    row = work.conn.execute(
        "select s.indexed_as, c.reloptions from geosearch.space s left join pg_catalog.pg_class c"
        " on c.oid = pg_catalog.to_regclass(%s) where s.id = %s",
        [sql.Identifier("geosearch", work.index).as_string(work.conn), work.space.id],
    ).fetchone()
    if row is None or (row[0] is None and row[1] is None):
        return None
    options = {"m": index_build.M, "ef_construction": index_build.EF_CONSTRUCTION}
    options.update({name: int(value) for name, value in (option.split("=") for option in row[1] or [])})
    return options


def use_tablespace_of(work: Session) -> None:
    """Let what the caller's transaction makes lie where the space's table lies."""
    row = work.conn.execute(
        "select t.spcname from pg_catalog.pg_class c join pg_catalog.pg_tablespace t on t.oid = c.reltablespace"
        " where c.oid = pg_catalog.to_regclass(%s)",
        [work.space.table.as_string(work.conn)],
    ).fetchone()
    if row is not None:
        work.conn.execute("select set_config('default_tablespace', %s, true)", row)


def carry_over(work: Session, new: sql.Identifier) -> None:
    """Give another table the storage parameters and rights of the space's table."""
    conn, old = work.conn, work.space.table.as_string(work.conn)
    options = conn.execute(
        "select o.option_name, o.option_value from pg_catalog.pg_class c,"
        " pg_catalog.pg_options_to_table(c.reloptions) o where c.oid = pg_catalog.to_regclass(%s)",
        [old],
    ).fetchall()
    for name, value in options:
        statement = sql.SQL("alter table {} set ({} = {})")
        conn.execute(statement.format(new, sql.Identifier(str(name)), sql.Literal(str(value))))
    rights = conn.execute(
        "select a.privilege_type, a.is_grantable, case when a.grantee <> 0 then pg_catalog.pg_get_userbyid(a.grantee)"
        " end, o.attname from pg_catalog.pg_class c,"
        " lateral (select c.relacl as acl, null::name as attname union all select t.attacl, t.attname"
        "  from pg_catalog.pg_attribute t where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped) o,"
        " pg_catalog.aclexplode(o.acl) a where c.oid = pg_catalog.to_regclass(%s) and a.grantee <> c.relowner",
        [old],
    ).fetchall()
    for privilege, grantable, grantee, column in rights:
        conn.execute(
            sql.SQL("grant {}{} on {} to {} {}").format(
                sql.SQL(str(privilege)),
                sql.SQL("") if column is None else sql.SQL(" ({})").format(sql.Identifier(str(column))),
                new,
                sql.SQL("public") if grantee is None else sql.Identifier(str(grantee)),
                sql.SQL("with grant option" if grantable else ""),
            )
        )
