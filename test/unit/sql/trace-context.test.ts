import { expect, test } from 'vitest'
import { traceParentOf } from '../../../src/sql/sql.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const spanId = '00f067aa0ba902b7'
const value = `00-${traceId}-${spanId}-01`
const of = (text: string): ReturnType<typeof traceParentOf> => traceParentOf(Buffer.from(text))

test('the traceparent of a sqlcommenter comment is the parent, wherever the comment stands', () => {
  const expected = { traceId, spanId, sampled: true }
  expect(of(`SELECT 1 /*traceparent='${value}'*/`)).toEqual(expected)
  expect(of(`SELECT 1 /*traceparent='${value}'*/;`)).toEqual(expected)
  expect(of(`/*traceparent='${value}'*/ SELECT 1`)).toEqual(expected)
  const long = `/*traceparent='${value}'*/ SELECT '${'x'.repeat(100_000)}'`
  expect(of(long)).toEqual(expected)
  const keys = `/*action='%2Fparam*d',framework='spring',traceparent='${value}',tracestate='a%3Db'*/`
  expect(of(`SELECT * FROM foo ${keys}`)).toEqual(expected)
  expect(of(`SELECT 1 /* plain */ /*a='1', traceparent='${value}'*/ -- end`)).toEqual(expected)
  expect(of(`SELECT 1 /*traceparent='${encodeURIComponent(value)}'*/`)).toEqual(expected)
  expect(of(`SELECT 1 /*traceparent='00%2D${value.slice(3)}'*/`)).toEqual(expected)
})

test('of several comments the one nearest to the end counts', () => {
  const other = `00-${'1'.repeat(32)}-${spanId}-00`
  expect(of(`/*traceparent='${other}'*/ SELECT 1 /*traceparent='${value}'*/`)?.traceId).toBe(
    traceId,
  )
})

test('the flag says whether it is sampled', () => {
  for (const [flags, sampled] of [
    ['00', false],
    ['01', true],
    ['02', false],
    ['03', true],
    ['ff', true],
  ] as const) {
    expect(of(`SELECT 1 /*traceparent='00-${traceId}-${spanId}-${flags}'*/`)?.sampled).toBe(sampled)
  }
})

test('what is not exactly right is nothing', () => {
  for (const wrong of [
    `00-${traceId}-${spanId}-01-more`,
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId}1-${spanId}-01`,
    `00-${traceId}-${spanId}`,
    `00-${traceId}-${spanId}-1`,
    ` ${value}`,
    `${value}\u0000`,
    '%',
    '%ff%fe',
    '',
    'x'.repeat(1_000_000),
    `\u001b]0;owned\u0007`,
  ]) {
    expect(of(`SELECT 1 /*traceparent='${wrong}'*/`), wrong.slice(0, 80)).toBeNull()
  }
  expect(of(`SELECT 1 -- traceparent='${value}'`)).toBeNull()
  expect(of(`SELECT 'traceparent=''${value}'''`)).toBeNull()
  expect(of(`SELECT 1 /*xtraceparent='${value}'*/`)).toBeNull()
  expect(of(`SELECT 1 /*traceparent=${value}*/`)).toBeNull()
  expect(of(`SELECT 1 /*traceparent='${value}'`)).toBeNull()
  expect(of(`/*traceparent='${value}'*/ SELECT 1`.padStart(200_000).padEnd(400_000))).toBeNull()
  // A later version may have more behind the flags.
  expect(of(`SELECT 1 /*traceparent='01-${traceId}-${spanId}-01-more'*/`)?.traceId).toBe(traceId)
})

// Where it took time that grows with the square of the text, the test's own timeout would say so.
test('a text made to be slow is not', () => {
  for (const piece of ['/*', '*/', "/*traceparent='", '/**', '*', "traceparent='", "a='1',"]) {
    const text = Buffer.from(piece.repeat(200_000))
    for (let round = 0; round < 20; round++) expect(traceParentOf(text)).toBeNull()
  }
})
