import { describe, expect, test } from 'vitest'
import { holdsSecret, redactLiterals } from '../../../src/sql/sql.ts'

describe('a text that holds a secret', () => {
  test.each([
    "ALTER ROLE ann PASSWORD 'hunter2'",
    "UPDATE users SET pw = crypt('hunter2', gen_salt('bf'))",
    "SELECT pgp_sym_decrypt(note, 'hunter2') FROM notes",
    "SELECT decrypt(note, 'hunter2', 'aes') FROM notes",
    "CREATE USER MAPPING FOR ann SERVER s OPTIONS (user 'u', pass 'hunter2')",
    "SET app.api_key = 'hunter2'",
    'SET app.api_key TO hunter2',
    "SELECT set_config('app.token', 'hunter2', false)",
    "SELECT * FROM sessions WHERE access_token = 'hunter2'",
    "SELECT aws_commons.create_aws_credentials('id', 'hunter2', '')",
    "SELECT http_get('https://x', 'Bearer hunter2hunter2hunter2')",
    "SELECT dblink_connect('postgres://u:hunter2@host/db')",
    "SELECT 'AKIAABCDEFGHIJKLMNOP', 'hunter2'",
    "SELECT 'sk_live_hunter2'",
    "SELECT 1 -- 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJodW50ZXIyIn0.' hunter2",
  ])('is written without it: %s', (text) => {
    expect(holdsSecret(text)).toBe(true)
    expect(redactLiterals(text)).not.toContain('hunter2')
  })

  test.each([
    'SELECT sum(tokens) FROM usage WHERE day = 7',
    "SELECT 'a' FROM tokenizer",
    "SELECT id FROM users WHERE name = 'ann' ORDER BY primary_key",
    "INSERT INTO t VALUES ('see https://example.com/a:b')",
    'SELECT encrypted FROM volumes WHERE id = 7',
  ])('is none of these: %s', (text) => {
    expect(holdsSecret(text)).toBe(false)
  })
})
