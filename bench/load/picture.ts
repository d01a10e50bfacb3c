/**
 * The comparison as an SVG: for each case a bar for each contestant, relative to the best of them,
 * with the median in figures and the spread of the rounds as a line.
 */
import { contestantTexts, type ContestantName } from './contestants.ts'
import { median, type Sample } from './measure.ts'
import { shown, type CaseResult, type Result } from './result.ts'

const colours: Readonly<Record<ContestantName, string>> = {
  direct: '#7a869a',
  relay: '#a5adba',
  pgbouncer: '#c1a15a',
  'regate-allow': '#8fb8de',
  regate: '#2f6fb2',
  'regate-hidden': '#1d4e89',
  'regate-masks': '#7b4fa3',
}

const width = 900
const left = 330
const barHeight = 15
const barsWidth = 380

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function caseBars(
  result: CaseResult,
  top: number,
): { readonly svg: string; readonly height: number } {
  const entries = (Object.entries(result.samples) as [ContestantName, readonly Sample[]][])
    .map(([name, samples]) => ({ name, values: samples.map(({ value }) => value) }))
    .filter(({ values }) => values.length > 0 && values.every((value) => Number.isFinite(value)))
  const most = Math.max(...entries.flatMap(({ values }) => values), Number.MIN_VALUE)
  const scale = (value: number): number => (Math.max(0, value) / most) * barsWidth
  const parts = [
    `<text x="16" y="${top + 14}" class="title">${escape(`${result.name}: ${result.text}`)}</text>`,
  ]
  let y = top + 24
  for (const { name, values } of entries) {
    const middle = y + barHeight / 2
    parts.push(
      `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${escape(contestantTexts[name])}</text>`,
      `<rect x="${left}" y="${y}" width="${scale(median(values)).toFixed(1)}" height="${barHeight - 3}" fill="${colours[name]}"/>`,
      `<line x1="${(left + scale(Math.min(...values))).toFixed(1)}" x2="${(left + scale(Math.max(...values))).toFixed(1)}" y1="${middle - 1}" y2="${middle - 1}" stroke="#222"/>`,
      `<text x="${left + barsWidth + 12}" y="${y + 12}">${shown(median(values))} ${escape(result.unit)}</text>`,
    )
    y += barHeight
  }
  return { svg: parts.join('\n'), height: y - top + 14 }
}

/** The whole picture. */
export function picture(result: Result): string {
  const parts: string[] = []
  let top = 58
  for (const measured of result.cases) {
    const { svg, height } = caseBars(measured, top)
    parts.push(svg)
    top += height
  }
  const facts = Object.entries(result.machine)
    .filter(([key]) => key !== 'system')
    .map(([key, value]) => `${key} ${value}`)
    .join(', ')
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top + 10}" font-family="sans-serif" font-size="12">`,
    '<style>.title{font-weight:bold} .small{font-size:10px;fill:#555}</style>',
    `<rect width="${width}" height="${top + 10}" fill="#fff"/>`,
    `<text x="16" y="22" font-size="16" class="title">regate bench: ${escape(result.name)}</text>`,
    `<text x="16" y="40" class="small">${escape(`${result.date}, ${result.rounds} rounds${result.quick ? ', quick' : ''}; ${facts}`)}</text>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}
