/**
 * Leaves out what a huge tree has too much of: the items of a list of plain constants beyond the first
 * two thousand (`IN ('…', …)`, rows of VALUES). Nothing that refers to anything is left out: an item
 * goes only if it is an A_Const, or a List of nothing but these. The statement's full JSON stays as it
 * is; this one is what regate itself walks.
 *
 * Two thousand is more than a row can have columns (MaxTupleAttributeNumber, 1,664), so rows are
 * whole or gone. `shortenConstants` is self-contained: its source text runs in the worker thread.
 */

/** Items of a list of constants that are kept. */
export const constantsKept = 2_000

/** @param json libpg_query's JSON text. @returns shorter JSON text; `json` itself if nothing was cut. */
export function shortenConstants(json: Uint8Array, keep: number): Uint8Array {
  const encoder = new TextEncoder()
  const constantHead = encoder.encode('{"A_Const":{')
  const listHead = encoder.encode('{"List":{"items":[')
  const startsWith = (at: number, head: Uint8Array): boolean => {
    for (let i = 0; i < head.length; i++) if (json[at + i] !== head[i]) return false
    return true
  }
  const objectEnd = (at: number): number => {
    let depth = 0
    for (; at < json.length; at++) {
      const byte = json[at]
      if (byte === 0x22) {
        for (at++; json[at] !== 0x22; at++) if (json[at] === 0x5c) at++
      } else if (byte === 0x7b) depth += 1
      else if (byte === 0x7d && --depth === 0) return at + 1
    }
    return json.length
  }
  // Behind a constant or a List of constants that begins at `at`, else 0.
  const constantEnd = (at: number): number => {
    if (startsWith(at, constantHead)) return objectEnd(at)
    if (!startsWith(at, listHead)) return 0
    let item = at + listHead.length
    while (startsWith(item, constantHead)) {
      item = objectEnd(item)
      if (json[item] !== 0x2c) break
      item += 1
    }
    const closed = json[item] === 0x5d && json[item + 1] === 0x7d && json[item + 2] === 0x7d
    return closed ? item + 3 : 0
  }
  const out = new Uint8Array(json.length)
  let length = 0
  let copied = 0
  let at = 0
  const cut = (from: number, to: number): void => {
    out.set(json.subarray(copied, from), length)
    length += from - copied
    copied = to
  }
  while (at < json.length) {
    const byte = json[at]
    if (byte === 0x22) {
      for (at++; json[at] !== 0x22 && at < json.length; at++) if (json[at] === 0x5c) at++
      at += 1
      continue
    }
    at += 1
    if (byte !== 0x5b) continue
    // A list begins: pass over its leading constants.
    let count = 0
    let cutFrom = 0
    for (;;) {
      const end = constantEnd(at)
      if (end === 0) break
      count += 1
      if (count === keep) cutFrom = end
      at = end
      if (json[at] !== 0x2c) break
      at += 1
    }
    if (cutFrom === 0 || count === keep) continue
    // Up to the comma before what is no constant, or to the end of the list.
    cut(cutFrom, json[at] === 0x5d ? at : at - 1)
  }
  if (copied === 0) return json
  cut(json.length, json.length)
  return out.subarray(0, length)
}
