import time, psycopg
from shared.outbox import Outbox, Decision, delete
from shared.policy.kinds import Path
from shared.producer import Record
from tests.integration.support import TODAY
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from shared.store.migrate import sqlalchemy_url
from shared.store.tables import metadata
import os
async def test_t(settings):
    o = Outbox()
    ids = [2**59 + n * 7919 for n in range(1000)]
    recs = [Record("t", None, os.urandom(40_000) + b"x" * 60_000) for _ in range(2)]
    async with await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) as c:
        await o.record(c, Path.batch, {Decision(TODAY, "comeback", "", "granted"): ids}, recs)
        t = time.perf_counter()
        for _ in range(200):
            page = await o.record(c, Path.batch, {Decision(TODAY, "comeback", "", "granted"): ids[:900], Decision(TODAY, "comeback", "", "practised"): ids[900:]}, recs)
            await delete(c, page)
        print("ms a page", (time.perf_counter() - t) * 5)
    with create_engine(sqlalchemy_url(settings.require_postgres())).connect() as x:
        for d in compare_metadata(MigrationContext.configure(x), metadata):
            print(d if not isinstance(d, list) else d[0][:4] + d[0][5:])
