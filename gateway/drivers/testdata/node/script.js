'use strict'
// Everything that node-postgres does, against the server of the PG* variables.
const assert = require('node:assert/strict')
const { Client, Pool, types } = require('pg')

const schema = process.env.DRIVER_SCHEMA
const gateway = process.env.DRIVER_GATEWAY === 'true'
const awkward = ['', "it's", 'back\\slash', '"double"', "línea\nd'été", '日本語 🐘', '$1 ? :x --c /* */ ;', '{"a",NULL}', '\\N']
const options = `-c search_path=${schema}`
let nextKey = 1

// n keys that nobody has used.
function keys(n) {
  return Array.from({ length: n }, () => nextKey++)
}

async function connected(config, work) {
  const client = new Client({ options, ...config })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

async function fails(promise, code) {
  try {
    await promise
  } catch (e) {
    assert.equal(e.code, code, e.message)
    return e
  }
  assert.fail(`no error, where ${code} was expected`)
}

async function one(client, ...query) {
  const r = await client.query(...query)
  return Object.values(r.rows[0])[0]
}

const tests = {
  async connect() {
    await connected({ application_name: 'a name', options: `${options} -c work_mem=7MB`, statement_timeout: 60000, lock_timeout: 9000 }, async (c) => {
      const want = { application_name: 'a name', work_mem: '7MB', search_path: schema, statement_timeout: '1min', lock_timeout: '9s', client_encoding: 'UTF8' }
      for (const [name, value] of Object.entries(want)) assert.equal(await one(c, 'SHOW ' + name), value)
    })
    await fails(connected({ options: '-c work_mem=nonsense' }), '22023')
    await fails(connected({ database: 'nosuch' }), '3D000')
    await fails(connected({ user: 'nosuch' }), '28000')
  },

  async types() {
    await connected({}, async (c) => {
      for (const [i, key] of keys(awkward.length).entries()) {
        const at = new Date(Date.UTC(2024, 1, 29, 12, 0, i, 123))
        const row = [key, i - 3, `-${2 ** 40 + i}.0001`, awkward[i], Buffer.from([0, 1, 255, 39, 92]), at,
          '0194fdc2-fa2f-4cc0-81d3-ff12045b73c8', i % 2 === 0, [1, -2], [awkward[i], null], { k: awkward[i], n: 1.5 }]
        const r = await c.query('INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)', row)
        assert.equal(r.rowCount, 1)
        const got = (await c.query({ text: 'SELECT id, i, n, t, b, ts, u, ok, a, ta, j FROM items WHERE id = $1', values: [key], rowMode: 'array' })).rows[0]
        assert.deepEqual(got, [String(key), ...row.slice(1)])
      }
      const [key] = keys(1)
      await c.query('INSERT INTO items(id, i, n, t, b, ts, u, ok, a, ta, j) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)', [key, ...Array(10).fill(null)])
      assert.equal(await one(c, 'SELECT (i,n,t,b,ts,u,ok,a,ta,j) IS NULL FROM items WHERE id = $1', [key]), true)
    })
  },

  async rows() {
    await connected({}, async (c) => {
      const ids = keys(20)
      const places = ids.map((_, i) => `($${2 * i + 1}, $${2 * i + 2})`).join(', ')
      let r = await c.query(`INSERT INTO items(id, t) VALUES ${places} RETURNING id`, ids.flatMap((k) => [k, `row ${k}`]))
      assert.deepEqual(r.rows.map((x) => Number(x.id)), ids)
      assert.deepEqual([r.command, r.rowCount], ['INSERT', 20])
      for (let i = 0; i < 5; i++) {
        r = await c.query('SELECT id, t FROM items WHERE id = ANY($1)', [ids])
        assert.deepEqual(r.rows.map((x) => x.t).sort(), ids.map((k) => `row ${k}`).sort())
      }
      r = await c.query('UPDATE items SET t = $1 WHERE id = ANY($2)', ['new', ids.slice(0, 15)])
      assert.equal(r.rowCount, 15)
      r = await c.query("DELETE FROM items WHERE t = 'new'")
      assert.equal(r.rowCount, 15)
      await c.query('INSERT INTO states VALUES ($1, $2), ($3, $4)', ['a', 'A', 'b', 'B'])
      for (let i = 0; i < 6; i++) assert.equal(await one(c, 'SELECT name FROM states WHERE code = $1', ['b']), 'B')
      // Several statements in one simple Query.
      const rs = await c.query(`SELECT 1 AS one; INSERT INTO items(id) VALUES (${keys(1)[0]}); SELECT 2 AS two`)
      assert.deepEqual(rs.map((x) => x.command), ['SELECT', 'INSERT', 'SELECT'])
      assert.equal(rs[2].rows[0].two, 2)
      assert.equal((await c.query('')).command, null)
    })
  },

  async named() {
    await connected({}, async (a) => connected({}, async (b) => {
      const ids = keys(40)
      for (const k of ids) await a.query({ name: 'put', text: 'INSERT INTO items(id, t) VALUES ($1, $2)', values: [k, `named ${k}`] })
      for (const k of ids) {
        assert.equal(await one(a, { name: 'get', text: 'SELECT t FROM items WHERE id = $1', values: [k] }), `named ${k}`)
        assert.equal(await one(b, { name: 'get', text: 'SELECT $1::text', values: ['same name'] }), 'same name')
      }
      const all = await a.query({ name: 'all', text: 'SELECT id FROM items WHERE id = ANY($1)', values: [ids] })
      assert.equal(all.rowCount, 40)
      await fails(a.query({ name: 'bad', text: 'SELECT nosuch FROM items WHERE id = $1', values: [1] }), '42703')
      assert.equal(await one(a, { name: 'get', text: 'SELECT t FROM items WHERE id = $1', values: [ids[0]] }), `named ${ids[0]}`)
      // Many queries at once wait in the client's queue.
      const many = await Promise.all(ids.map((k) => a.query({ name: 'get', text: 'SELECT t FROM items WHERE id = $1', values: [k] })))
      assert.deepEqual(many.map((r) => r.rows[0].t), ids.map((k) => `named ${k}`))
      // Rows a few at a time: Execute with a limit.
      const few = await a.query({ text: 'SELECT t FROM items WHERE id = ANY($1)', values: [ids], rows: 7 })
      assert.equal(few.rows.length, 40)
    }))
  },

  async transactions() {
    await connected({}, async (c) => connected({}, async (other) => {
      const ids = keys(12)
      const present = async () => (await other.query('SELECT 1 FROM items WHERE id = ANY($1)', [ids])).rowCount
      const insert = (k) => c.query('INSERT INTO items(id) VALUES ($1)', [k])
      await c.query('BEGIN')
      for (const k of ids) await insert(k)
      assert.equal(await present(), 0)
      await c.query('ROLLBACK')
      assert.equal(await present(), 0)

      await c.query('BEGIN')
      for (const k of ids.slice(0, 6)) await insert(k)
      await c.query('SAVEPOINT a')
      await insert(ids[6])
      await fails(insert(ids[0]), '23505')
      await fails(c.query('SELECT 1 FROM items WHERE id = $1', [ids[7]]), '25P02')
      await c.query('ROLLBACK TO a')
      await insert(ids[8])
      await c.query('RELEASE a')
      assert.equal((await c.query('COMMIT')).command, 'COMMIT')
      assert.equal(await present(), 7)

      await c.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
      await c.query('DELETE FROM items WHERE id = ANY($1)', [ids])
      await fails(c.query('SELECT 1/0'), '22012')
      assert.equal((await c.query('COMMIT')).command, 'ROLLBACK')
      assert.equal(await present(), 7)
    }))
  },

  async errors() {
    await connected({}, async (c) => {
      const [key] = keys(1)
      await c.query('INSERT INTO items(id) VALUES ($1)', [key])
      const e = await fails(c.query('INSERT INTO items(id) VALUES ($1)', [key]), '23505')
      assert.deepEqual([e.severity, e.schema, e.table, e.constraint, e.detail],
        ['ERROR', schema, 'items', 'items_pkey', `Key (id)=(${key}) already exists.`])
      for (const [text, code, position] of [['SELEC 1', '42601', '1'], ['SELECT 1 FROM nosuch', '42P01', '15'], ['SELECT nosuch FROM items', '42703', '8']]) {
        assert.equal((await fails(c.query(text), code)).position, position)
        assert.equal((await fails(c.query({ text, queryMode: 'extended' }), code)).position, position)
      }
      await fails(c.query('INSERT INTO lines VALUES ($1, 1)', [key + 1e6]), '23503')
      await fails(c.query('INSERT INTO states VALUES ($1, NULL)', ['x']), '23502')
      await fails(c.query('SELECT $1::int', ['not a number']), '22P02')
      await fails(c.query('SELECT 1; SELECT $1', [1]), '42601')
      if (gateway) assert.ok((await fails(c.query('UPDATE items SET i = 1 WHERE ctid IN (SELECT ctid FROM items WHERE id <> $1)', [key]), '0A000')).hint)
      const notices = []
      c.on('notice', (n) => notices.push(n.message))
      await c.query('DROP TABLE IF EXISTS nosuch')
      assert.deepEqual(notices, ['table "nosuch" does not exist, skipping'])
      assert.equal(await one(c, 'SELECT 1'), 1)
    })
  },

  async cancel() {
    await connected({}, async (c) => {
      await c.query('INSERT INTO items(id) VALUES ($1)', [keys(1)[0]])
      for (const [text, ...values] of [['SELECT pg_sleep(20)'], ['SELECT pg_sleep(20) FROM items'], ['SELECT pg_sleep($1)', 20]]) {
        const begun = Date.now()
        const query = fails(c.query(text, values), '57014')
        await new Promise((resolve) => setTimeout(resolve, 150))
        const canceller = new Client()
        canceller.cancel(c, c._getActiveQuery())
        await query
        assert.ok(Date.now() - begun < 10000)
        assert.equal(await one(c, 'SELECT 1'), 1)
      }
      await c.query('SET statement_timeout = 100')
      await fails(c.query('SELECT pg_sleep(20) FROM items'), '57014')
    })
  },

  async notify() {
    await connected({}, async (c) => connected({}, async (sender) => {
      const got = []
      const both = new Promise((resolve) => c.on('notification', (n) => got.push([n.channel, n.payload]) === 2 && resolve()))
      await c.query('LISTEN node_news')
      await sender.query("NOTIFY node_news, 'hello'")
      await sender.query('SELECT pg_notify($1, $2)', ['node_news', 'bye'])
      await both
      assert.deepEqual(got, [['node_news', 'hello'], ['node_news', 'bye']])
    }))
  },

  async settings() {
    await connected({}, async (c) => {
      await c.query("SET work_mem = '5MB'")
      await c.query('BEGIN')
      await c.query("SET LOCAL work_mem = '8MB'")
      await c.query("SET TIME ZONE 'Asia/Tokyo'")
      assert.equal(await one(c, 'SHOW work_mem'), '8MB')
      await c.query('ROLLBACK')
      assert.equal(await one(c, 'SHOW work_mem'), '5MB')
      assert.notEqual(await one(c, 'SHOW TimeZone'), 'Asia/Tokyo')
      await fails(c.query("SET work_mem = 'much'"), '22023')
    })
  },

  async userTypes() {
    await connected({}, async (c) => {
      const mood = Number(await one(c, "SELECT 'mood'::regtype::oid"))
      const list = Number(await one(c, "SELECT 'mood[]'::regtype::oid"))
      c.setTypeParser(mood, (v) => 'mood ' + v)
      c.setTypeParser(list, types.getTypeParser(1009))
      for (const [i, k] of keys(24).entries()) {
        await c.query('INSERT INTO moods VALUES ($1, $2, $3, $4)', [k, ['sad', 'ok', 'happy'][i % 3], `(${i},y)`, ['ok', 'sad']])
        const r = await c.query('SELECT m, p, ms FROM moods WHERE id = $1', [k])
        assert.deepEqual(r.fields.map((f) => f.dataTypeID), [mood, r.fields[1].dataTypeID, list])
        assert.deepEqual(r.rows[0], { m: 'mood ' + ['sad', 'ok', 'happy'][i % 3], p: `(${i},y)`, ms: ['ok', 'sad'] })
      }
      await fails(c.query('INSERT INTO moods(id, m) VALUES ($1, $2)', [keys(1)[0], 'bored']), '22P02')
    })
  },

  async metadata() {
    await connected({}, async (c) => {
      const table = await one(c, "SELECT 'items'::regclass::oid")
      for (const text of ['SELECT id, t AS name, 1+1 FROM items WHERE id = 3', 'SELECT id, t AS name, 1+1 FROM items']) {
        const { fields } = await c.query(text)
        assert.deepEqual(fields.map((f) => [f.name, f.tableID, f.columnID, f.dataTypeID]), [['id', table, 1, 20], ['name', table, 4, 25], ['?column?', 0, 0, 23]])
      }
    })
  },

  async pool() {
    const pool = new Pool({ options, max: 8 })
    const ids = keys(200)
    try {
      await Promise.all(ids.map(async (k) => {
        const c = await pool.connect()
        try {
          await c.query('BEGIN')
          await c.query('INSERT INTO items(id, i) VALUES ($1, $2), ($3, $2)', [k, 1, -k])
          await c.query({ name: 'line', text: 'INSERT INTO lines VALUES ($1, 1, $2)', values: [k, `pool ${k}`] })
          await c.query('COMMIT')
        } finally {
          c.release()
        }
        const r = await pool.query({ name: 'join', text: 'SELECT l.note FROM items i JOIN lines l ON l.item = i.id WHERE i.id = $1', values: [k] })
        assert.equal(r.rows[0].note, `pool ${k}`)
        if (k % 9 === 0) await fails(pool.query('INSERT INTO items(id) VALUES ($1)', [k]), '23505')
      }))
      assert.equal((await pool.query('SELECT 1 FROM items WHERE id = ANY($1)', [ids.concat(ids.map((k) => -k))])).rowCount, 400)
    } finally {
      await pool.end()
    }
  },
}

async function main() {
  console.log(`node-postgres ${require('pg/package.json').version}, Node.js ${process.version}`)
  let failures = 0
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test()
    } catch (e) {
      failures++
      console.log(`${name} failed:`, e)
    }
  }
  process.exitCode = failures
}

main()
