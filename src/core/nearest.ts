/** Which known word a misspelt one was meant for. */

/** The nearest of the known words, if it is near enough to be a slip of the pen. */
export function nearest(word: string, known: readonly string[]): string | null {
  let best: string | null = null
  let least = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < least) {
      least = distance
      best = candidate
    }
  }
  return best
}

/** The known words in the order of their distance, so many of them. */
export function nearestOf(word: string, known: readonly string[], count: number): string[] {
  const distances = new Map(
    known.map((name) => [name, editDistance(word.toLowerCase(), name.toLowerCase())]),
  )
  const distance = (name: string): number => distances.get(name) ?? 0
  return known.toSorted((a, b) => distance(a) - distance(b)).slice(0, count)
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
