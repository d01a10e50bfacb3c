/**
 * The linear scan before parsing: an upper bound for the depth of the tree that a text can give, so
 * that deep statements never reach the instance in this thread. One pass over bytes, no allocation.
 *
 * It may count too much (a worker thread parses the text then, nothing worse), never too little:
 * - every token is a level (NOT NOT NOT, 1+1+1, a JOIN b JOIN c), every bracket holds levels of its own;
 * - a comma at the same bracket level ends a chain, except chains of UNION, INTERSECT and EXCEPT;
 * - AND and OR end a chain too, because the grammar makes flat lists of them, unless CASE, NOT or
 *   BETWEEN is about: these reach across an AND (`1 BETWEEN 1 AND - NOT 2 BETWEEN …`);
 * - strings, identifiers, dollar quotes and comments are skipped by the rules of scan.l under
 *   standard_conforming_strings, so that a bracket inside them closes nothing.
 */

import {
  blockCommentEnd,
  byteClasses,
  byteClose,
  byteDigit,
  byteOpen,
  byteSpace,
  byteWord,
  dollarEnd,
  escapeStringEnd,
  lineCommentEnd,
  quotedEnd,
  wordEnd,
} from './parser-lex.ts'

const quote = 0x27
const doubleQuote = 0x22
const dollar = 0x24
const comma = 0x2c
const semicolon = 0x3b
const minus = 0x2d
const slash = 0x2f
const star = 0x2a

const levelsMax = 4096
/** Per bracket level: the deepest segment so far, and the set operations between its arms. */
const deepest = new Int32Array(levelsMax)
const setOperations = new Int32Array(levelsMax)
/** Of the current segment (since the last comma): */
const tokens = new Int32Array(levelsMax)
const joins = new Int32Array(levelsMax)
const inner = new Int32Array(levelsMax)
/** CASE, NOT or BETWEEN was seen in it. */
const reaching = new Uint8Array(levelsMax)

function bump(counts: Int32Array, level: number): void {
  counts[level] = (counts[level] as number) + 1
}

function enter(level: number): void {
  deepest[level] = 0
  setOperations[level] = 0
  startSegment(level)
}

function startSegment(level: number): void {
  tokens[level] = 0
  joins[level] = 0
  inner[level] = 0
  reaching[level] = 0
}

/** Ends the chain at a comma, AND or bracket; joins count in full, they reach over AND. */
function endChain(level: number): void {
  const depth = (tokens[level] as number) + (joins[level] as number) + (inner[level] as number)
  if (depth > (deepest[level] as number)) deepest[level] = depth
}

function depthOf(level: number): number {
  endChain(level)
  return (deepest[level] as number) + (setOperations[level] as number) + 1
}

/**
 * Upper bound of the tree's depth in tokens; once `enough` is passed, any number above it.
 * @param text UTF-8.
 */
export function depthBound(text: Uint8Array, enough: number): number {
  // No token is shorter than a byte.
  if (text.length <= enough) return text.length
  let level = 0
  let most = 0
  enter(0)
  const end = text.length
  let at = 0
  while (at < end) {
    const byte = text[at] as number
    switch (byteClasses[byte]) {
      case byteSpace:
        at += 1
        continue
      case byteWord: {
        const begin = at
        at = wordEnd(text, at)
        countWord(text, begin, at, level)
        if (at - begin === 1 && text[at] === quote && (byte | 0x20) === 0x65) {
          at = escapeStringEnd(text, at + 1)
        }
        break
      }
      case byteDigit:
        do at += 1
        while (byteClasses[text[at] ?? 0] === byteDigit)
        bump(tokens, level)
        break
      case byteOpen:
        at += 1
        bump(tokens, level)
        level += 1
        if (level >= levelsMax || level > enough) return enough + 1
        enter(level)
        break
      case byteClose:
        at += 1
        if (level > 0) {
          const depth = depthOf(level)
          level -= 1
          if (depth > (inner[level] as number)) inner[level] = depth
        }
        break
      default:
        at = scanOther(text, at, byte, level)
        if (byte === semicolon && level === 0) {
          most = Math.max(most, depthOf(0))
          enter(0)
        }
    }
    if ((tokens[level] as number) > enough) return enough + 1
  }
  let total = 0
  for (let open = level; open >= 0; open--) {
    inner[open] = Math.max(inner[open] as number, total)
    total = depthOf(open)
  }
  return Math.max(most, total)
}

/** Strings, comments, operators, commas; returns the position behind. */
function scanOther(text: Uint8Array, at: number, byte: number, level: number): number {
  switch (byte) {
    case comma:
      endChain(level)
      startSegment(level)
      return at + 1
    case quote:
    case doubleQuote:
      bump(tokens, level)
      return quotedEnd(text, at + 1, byte)
    case dollar: {
      bump(tokens, level)
      return dollarEnd(text, at)
    }
    case minus:
      if (text[at + 1] === minus) return lineCommentEnd(text, at + 2)
      break
    case slash:
      if (text[at + 1] === star) return blockCommentEnd(text, at + 2)
      break
  }
  bump(tokens, level)
  return at + 1
}

/** Counts a word on its level, as a keyword where it is one. */
function countWord(text: Uint8Array, begin: number, end: number, level: number): void {
  switch (end - begin) {
    case 2:
      if (isWord(text, begin, 'or')) {
        flatOperator(level)
        return
      }
      break
    case 3:
      if (isWord(text, begin, 'and')) {
        flatOperator(level)
        return
      }
      if (isWord(text, begin, 'not')) reaching[level] = 1
      break
    case 4:
      if (isWord(text, begin, 'join')) {
        bump(joins, level)
        return
      }
      if (isWord(text, begin, 'case')) reaching[level] = 1
      break
    case 5:
      if (isWord(text, begin, 'union')) bump(setOperations, level)
      break
    case 6:
      if (isWord(text, begin, 'except')) bump(setOperations, level)
      break
    case 7:
      if (isWord(text, begin, 'between')) reaching[level] = 1
      break
    case 9:
      if (isWord(text, begin, 'intersect')) bump(setOperations, level)
      break
  }
  bump(tokens, level)
}

function flatOperator(level: number): void {
  if (reaching[level] === 1) {
    bump(tokens, level)
    return
  }
  endChain(level)
  tokens[level] = 0
  inner[level] = 0
}

/** Case-insensitive, ASCII: keywords have no other letters. */
function isWord(text: Uint8Array, begin: number, name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    if (((text[begin + i] as number) | 0x20) !== name.charCodeAt(i)) return false
  }
  return true
}
