/**
 * Text that others chose (SQL, user names, application names, claims, values of rows) on its way to a
 * person or a file. A terminal obeys control characters, and right-to-left marks make a line read as
 * something else: both are shown, not sent.
 */

/** C0, DEL, C1, lone surrogates, line separators, marks that reorder or hide text. */
const unsafe =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

/** The same without what JSON.stringify escapes by itself. */
const unsafeInJson =
  /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/
const everyUnsafeInJson = new RegExp(unsafeInJson, 'g')

/** The text for one line of a terminal or log: what would act or hide is written as `\u001b`. */
export function printable(text: string, lengthMax = Number.POSITIVE_INFINITY): string {
  return cut(text, lengthMax).replace(unsafe, escaped)
}

/** The same for text of several lines: line feeds and tabs stay. */
export function printableLines(text: string, lengthMax = Number.POSITIVE_INFINITY): string {
  return cut(text, lengthMax).replace(unsafe, (character) =>
    character === '\n' || character === '\t' ? character : escaped(character),
  )
}

/** A JSON string that is harmless where somebody prints the file as it is; it means the same. */
export function jsonText(text: string): string {
  return harmlessJson(JSON.stringify(text))
}

/** The same of a whole document: outside of its strings JSON has no such characters. */
export function harmlessJson(json: string): string {
  return unsafeInJson.test(json) ? json.replace(everyUnsafeInJson, escaped) : json
}

/** At most so many UTF-16 units, with `…` where something was cut off; no character is cut in two. */
export function cut(text: string, lengthMax: number): string {
  if (text.length <= lengthMax) return text
  const last = text.charCodeAt(lengthMax - 1)
  const end = last >= 0xd800 && last <= 0xdbff ? lengthMax - 1 : lengthMax
  return `${text.slice(0, end)}…`
}

function escaped(character: string): string {
  switch (character) {
    case '\n':
      return '\\n'
    case '\t':
      return '\\t'
    case '\r':
      return '\\r'
    default:
      return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  }
}
