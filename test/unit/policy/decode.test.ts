import { describe, expect, it } from 'vitest'
import { ProxyError } from '../../../src/core/core.ts'
import {
  decodeConnectDecision,
  decodeMask,
  decodeStatementDecision,
  parseDuration,
} from '../../../src/policy/policy.ts'
import { decodeResultSet } from '../../../src/policy/decode.ts'

const faultOf = (work: () => unknown): ProxyError => {
  try {
    work()
  } catch (error) {
    if (error instanceof ProxyError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('decoding a decision', () => {
  it('takes the least there is', () => {
    const decision = decodeStatementDecision({ action: 'allow' })
    expect(decision).toMatchObject({ action: 'allow', reason: '', rule: '', limits: null })
    expect(decision.masks.size).toBe(0)
  })

  it('takes masks beside allow as a mask', () => {
    const masks = { 'public.users.ssn': { kind: 'redact' } }
    expect(decodeStatementDecision({ action: 'allow', masks }).action).toBe('mask')
  })

  it('takes a masked column however its name is quoted', () => {
    const masks = {
      'public.su.system_user': { kind: 'redact' },
      'public."users"."ssn"': { kind: 'null' },
      'public."odd.name".x': { kind: 'null' },
      'no column': { kind: 'null' },
    }
    expect([...decodeStatementDecision({ action: 'mask', masks }).masks.keys()]).toEqual([
      'public.su."system_user"',
      'public.users.ssn',
      'public."odd.name".x',
      'no column',
    ])
  })

  it('leaves to the configuration what the policy does not say of an approval', () => {
    const decision = decodeStatementDecision({ action: 'approve', approval: { groups: ['dba'] } })
    expect(decision.approval).toEqual({
      groups: ['dba'],
      quorum: 1,
      waitMs: null,
      ttlMs: null,
    })
  })

  it.each([
    ['no object', 'allow'],
    ['null', null],
    ['a list', [{ action: 'allow' }]],
    ['no action', {}],
    ['an unknown action', { action: 'permit' }],
    ['an action in capitals', { action: 'ALLOW' }],
    [
      'a key that is a typo of masks',
      { action: 'allow', mask: { 'public.users.ssn': { kind: 'null' } } },
    ],
    ['mask without masks', { action: 'mask' }],
    ['masks that are a list', { action: 'allow', masks: [] }],
    ['an unknown kind of mask', { action: 'allow', masks: { 'a.b.c': { kind: 'blur' } } }],
    ['a mask that is a string', { action: 'allow', masks: { 'a.b.c': 'redact' } }],
    ['a kind from the prototype', { action: 'allow', masks: { 'a.b.c': { kind: 'constructor' } } }],
    ['approve without approval', { action: 'approve' }],
    ['approve by nobody', { action: 'approve', approval: { groups: [] } }],
    ['a quorum of nobody', { action: 'approve', approval: { groups: ['a'], quorum: 0 } }],
    ['a duration without unit', { action: 'approve', approval: { groups: ['a'], wait: 30 } }],
    ['negative rows', { action: 'allow', limits: { rows: -1 } }],
    ['rows as text', { action: 'allow', limits: { rows: '10' } }],
    ['an unknown limit', { action: 'allow', limits: { row: 10 } }],
    ['a reason that is a number', { action: 'deny', reason: 7 }],
    ['asks for nothing known', { action: 'deny', asks: ['moon'] }],
  ])('refuses %s', (_name, value) => {
    expect(faultOf(() => decodeStatementDecision(value)).code).toBe('policy_fault')
  })

  it('refuses an undefined decision: no answer is no allow', () => {
    const fault = faultOf(() => decodeResultSet('[]', 'regate/statement/decision'))
    expect(fault.message).toContain('undefined')
  })

  it('says what is wrong with it', () => {
    const fault = faultOf(() => decodeStatementDecision({ action: 'allow', mask: {} }))
    expect(fault.message).toContain('"mask"')
    expect(fault.sqlstate).toBe('42501')
  })
})

describe('decoding masks', () => {
  it.each([
    { kind: 'null' },
    { kind: 'constant', value: 'x' },
    { kind: 'constant', value: null },
    { kind: 'redact' },
    { kind: 'hash' },
    { kind: 'partial', keep_start: 2, keep_end: 4 },
    { kind: 'partial', email: true },
    { kind: 'bucket', size: 10 },
    { kind: 'truncate', unit: 'year' },
    { kind: 'truncate', digits: 2 },
    { kind: 'noise', ratio: 0.1 },
  ])('takes $kind', (mask) => {
    expect(decodeMask(mask, 'the mask')).toEqual(mask)
  })

  it.each([
    { kind: 'constant' },
    { kind: 'constant', value: {} },
    { kind: 'redact', extra: 1 },
    { kind: 'partial', keep_start: -1 },
    { kind: 'partial', keep_end: 1.5 },
    { kind: 'bucket', size: 0 },
    { kind: 'truncate' },
    { kind: 'truncate', unit: 'parsec' },
    { kind: 'truncate', unit: 'minute' },
    { kind: 'noise', ratio: 1 },
  ])('refuses %j', (mask) => {
    expect(faultOf(() => decodeMask(mask, 'the mask')).code).toBe('policy_fault')
  })
})

describe('decoding a connect decision', () => {
  it('takes settings of any scalar type and lower-cases their names', () => {
    const decision = decodeConnectDecision({
      action: 'allow',
      role: 'readonly',
      settings: { Statement_Timeout: '30s', 'app.tenant': 7, jit: false },
      locked: ['STATEMENT_TIMEOUT'],
    })
    expect([...decision.settings]).toEqual([
      ['statement_timeout', '30s'],
      ['app.tenant', '7'],
      ['jit', 'false'],
    ])
    expect(decision.locked).toEqual(['statement_timeout'])
  })

  it.each([
    { action: 'mask' },
    { action: 'allow', settings: { 'a; DROP': '1' } },
    { action: 'allow', settings: { a: 'x\0y' } },
    { action: 'allow', settings: { a: {} } },
    { action: 'allow', role: 7 },
    { action: 'allow', roles: 'typo' },
  ])('refuses %j', (value) => {
    expect(faultOf(() => decodeConnectDecision(value)).code).toBe('policy_fault')
  })
})

describe('durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['15m', 900_000],
    ['1.5h', 5_400_000],
    ['2d', 172_800_000],
  ])('%s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })

  it.each(['', '30', '-1s', '1w', 's', '1e9s'])('refuses "%s"', (text) => {
    expect(parseDuration(text)).toBeUndefined()
  })
})
