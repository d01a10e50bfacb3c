/** What a StartupMessage may ask for. */
import { describe, expect, it } from 'vitest'
import {
  checkStartup,
  parseOptions,
  splitOptions,
  upstreamParameters,
} from '../../../src/server/startup.ts'
import type { StartupMessage } from '../../../src/wire/wire.ts'

function message(
  parameters: Record<string, string>,
  over: Partial<StartupMessage> = {},
): StartupMessage {
  return {
    kind: 'startup',
    version: 0x30000,
    parameters: new Map(Object.entries({ user: 'ann', ...parameters })),
    protocolOptions: new Map(),
    ...over,
  }
}

const settings = (parameters: Record<string, string>): Record<string, string> =>
  Object.fromEntries(checkStartup(message(parameters)).parameters)

describe('startup', () => {
  it('takes the user for the database where none is named', () => {
    expect(checkStartup(message({}))).toMatchObject({ user: 'ann', database: 'ann' })
    expect(checkStartup(message({ database: 'shop' })).database).toBe('shop')
    expect(checkStartup(message({ database: '' })).database).toBe('ann')
  })

  it('needs a user', () => {
    expect(() => checkStartup(message({ user: '' }))).toThrow('no PostgreSQL user name')
  })

  it('passes settings on, of parameters and of options, the later one winning', () => {
    expect(
      settings({
        application_name: 'psql',
        options: '-c statement_timeout=5s --work-mem=1MB -cDateStyle=German -c search_path=a\\ b',
        datestyle: 'ISO',
      }),
    ).toEqual({
      application_name: 'psql',
      statement_timeout: '5s',
      work_mem: '1MB',
      datestyle: 'ISO',
      search_path: 'a b',
    })
  })

  it.each(['UTF8', 'utf-8', 'Utf_8', "'UTF8'", 'unicode', 'UNICODE'])(
    'accepts client_encoding %s, which upstream is pinned anyway',
    (value) => {
      expect(settings({ client_encoding: value })).toEqual({})
    },
  )

  it.each([
    { client_encoding: 'LATIN1' },
    { client_encoding: 'SQL_ASCII' },
    { client_encoding: 'SJIS' },
    { client_encoding: '' },
    { CLIENT_ENCODING: 'GBK' },
    { options: '-c client_encoding=BIG5' },
    { options: '--client-encoding=BIG5' },
    { options: '-c client-encoding=BIG5' },
    { options: '-cclient_encoding=BIG5' },
    { standard_conforming_strings: 'off' },
    { options: '-c standard_conforming_strings=off' },
    { options: '--standard-conforming-strings=off' },
    { options: '-c Standard_Conforming_Strings=of' },
    { options: '-c\\ standard_conforming_strings=off' },
    { options: '-c standard_conforming_strings=o\\ff' },
    { options: '-c standard_conforming_strings=on -c standard_conforming_strings=0' },
    { backslash_quote: 'on' },
    { options: '-c role=postgres' },
    { role: 'postgres' },
    { options: '-c session_authorization=postgres' },
    { options: '-c session_replication_role=replica' },
    { options: '-c session_preload_libraries=evil' },
    { options: '-c local_preload_libraries=evil' },
    { User: 'root' },
    { DATABASE: 'other' },
    { options: '-c user=root' },
    { options: '-c options=--role=postgres' },
    { replication: 'database' },
    { replication: 'true' },
    { replication: '1' },
    { options: '-c replication=1' },
  ])('refuses %j', (parameters) => {
    expect(() => checkStartup(message(parameters as Record<string, string>))).toThrow()
  })

  it('says what to do instead', () => {
    const refused = (parameters: Record<string, string>) => {
      try {
        checkStartup(message(parameters))
      } catch (error) {
        return error
      }
      return null
    }
    expect(refused({ client_encoding: 'LATIN1' })).toMatchObject({
      sqlstate: '0A000',
      hint: expect.stringContaining('client_encoding=UTF8') as string,
    })
    expect(refused({ replication: 'true' })).toMatchObject({ sqlstate: '0A000' })
    expect(refused({ role: 'x' })).toMatchObject({ sqlstate: '0A000' })
    expect(refused({ database: 'd'.repeat(63) })).toBeNull()
    // The server would open the database of its first 63 bytes.
    expect(refused({ database: `${'d'.repeat(63)}x` })).toMatchObject({ sqlstate: '3D000' })
    expect(refused({ database: 'é'.repeat(32) })).toMatchObject({ sqlstate: '3D000' })
  })

  it('lets a client say that it wants no replication', () => {
    expect(settings({ replication: 'false' })).toEqual({})
  })

  it('negotiates a newer protocol and unknown protocol options', () => {
    expect(checkStartup(message({})).negotiation).toBeNull()
    expect(checkStartup(message({}, { version: 0x30002 }))).toMatchObject({
      protocolMinor: 2,
      negotiation: null,
    })
    expect(
      checkStartup(
        message({}, { version: 0x3270f, protocolOptions: new Map([['_pq_.grease', 'x']]) }),
      ),
    ).toMatchObject({
      protocolMinor: 2,
      negotiation: { version: 0x30002, unrecognizedOptions: ['_pq_.grease'] },
    })
  })
})

describe('options', () => {
  // Expected values follow pg_split_opts() and process_postgres_switches().
  it.each([
    ['', []],
    ['   ', []],
    ['-c a=b', ['-c', 'a=b']],
    ['\t-c\na=b\r\v\f', ['-c', 'a=b']],
    ['a\\ b', ['a b']],
    ['a\\\\b', ['a\\b']],
    ['a\\', ['a']],
    ['\\', ['']],
    ['"a b"', ['"a', 'b"']],
    ['a\u00a0b', ['a\u00a0b']],
  ])('splits %j', (text, words) => {
    expect(splitOptions(text)).toEqual(words)
  })

  it('reads the three forms of a setting', () => {
    expect(parseOptions('-c a=b -ca=c --a-b.c=d=e')).toEqual([
      ['a', 'b'],
      ['a', 'c'],
      ['a_b.c', 'd=e'],
    ])
  })

  it.each(['-c', '--', '-c a', '--a', '-c =b', '-e', '-S 5', '-fs', 'a=b', '-ec a=b', '-', '\\'])(
    'refuses %j',
    (text) => {
      expect(() => parseOptions(text)).toThrow()
    },
  )
})

describe('what goes upstream', () => {
  const parametersOf = (
    client: Record<string, string>,
    settings: Record<string, string> = {},
    locked: string[] = [],
  ): Record<string, string> =>
    Object.fromEntries(
      upstreamParameters(
        checkStartup(message(client)),
        { settings: new Map(Object.entries(settings)), locked },
        'ann@example.com',
      ),
    )

  it('names the person before the client', () => {
    expect(parametersOf({ application_name: 'psql' })).toEqual({
      application_name: 'ann@example.com/psql',
    })
    expect(parametersOf({ Application_Name: 'psql' })).toEqual({
      application_name: 'ann@example.com/psql',
    })
    expect(parametersOf({ application_name: 'ä'.repeat(80) })['application_name']).toBe(
      `ann@example.com/${'?'.repeat(47)}`,
    )
  })

  it('has the policy’s settings over the client’s, whatever their case', () => {
    expect(
      parametersOf(
        { options: '-c Statement_Timeout=0 -c work_mem=1MB' },
        { statement_timeout: '30s' },
        ['statement_timeout'],
      ),
    ).toMatchObject({ statement_timeout: '30s', work_mem: '1MB' })
  })

  it('refuses a locked setting that the policy leaves as the role has it', () => {
    expect(() => parametersOf({ options: '-c ROW_SECURITY=off' }, {}, ['Row_Security'])).toThrow(
      'locked by the policy',
    )
    expect(parametersOf({ application_name: 'x' }, {}, ['application_name'])).toEqual({
      application_name: 'ann@example.com/x',
    })
  })
})
