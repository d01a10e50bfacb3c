/** A line over time as SVG: drawn by coordinates, coloured by the style sheet, named for readers. */
import { h, type ComponentChildren } from 'preact'

export interface ChartLine {
  readonly class: string
  readonly values: readonly (number | null)[]
}

const width = 600
const height = 120

/** @param label what it shows, with its newest value: charts are silent to who cannot see them. */
export function chart(
  label: string,
  lines: readonly ChartLine[],
  words: (value: number) => string,
): ComponentChildren {
  const top = Math.max(1e-9, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)))
  const scaled = niceTop(top)
  return h(
    'div',
    { class: 'chart' },
    h(
      'svg',
      {
        viewBox: `0 0 ${width} ${height}`,
        preserveAspectRatio: 'none',
        role: 'img',
        'aria-label': label,
      },
      [0.25, 0.5, 0.75].map((share) =>
        h('line', { class: 'grid', x1: 0, x2: width, y1: height * share, y2: height * share }),
      ),
      lines.map(({ class: name, values }) => h('path', { class: name, d: pathOf(values, scaled) })),
    ),
    h('span', { class: 'top', 'aria-hidden': 'true' }, words(scaled)),
  )
}

function pathOf(values: readonly (number | null)[], top: number): string {
  const step = width / Math.max(1, values.length - 1)
  let path = ''
  let drawing = false
  for (const [index, value] of values.entries()) {
    if (value === null) {
      drawing = false
      continue
    }
    const y = height - 2 - (value / top) * (height - 6)
    path += `${drawing ? 'L' : 'M'}${(index * step).toFixed(1)} ${y.toFixed(1)}`
    drawing = true
  }
  return path
}

/** 1, 2 or 5 times a power of ten, at or above the value. */
function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  for (const factor of [1, 2, 5]) if (value <= factor * power) return factor * power
  return 10 * power
}
