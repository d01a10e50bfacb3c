/** What a webhook's receiver gets: plain JSON, or a message that Slack or Teams shows as it is. */
import type { ApprovalEvent } from './adapter.ts'
import { sayRequirements } from './people.ts'
import { sayDuration } from './texts.ts'

export type PayloadFormat = 'json' | 'slack' | 'teams'

const quotedLengthMax = 1_500

/** The body of the request, in the receiver's format. */
export function payloadOf(format: PayloadFormat, event: ApprovalEvent): object {
  switch (format) {
    case 'json':
      return jsonPayload(event)
    case 'slack':
      return slackPayload(event)
    case 'teams':
      return teamsPayload(event)
  }
}

/** Schema `regate.approval.v1`: the request as GET /v1/approvals/{id} says it, in short. */
function jsonPayload({ kind, deliveryId, request, link }: ApprovalEvent): object {
  const { document, review } = request
  const { identity, role, clientAddress, kind: statementKind, count, rule, reason } = document
  return {
    schema: 'regate.approval.v1',
    event: kind,
    delivery: deliveryId,
    link,
    approval: {
      id: request.id,
      state: request.state,
      created: request.created,
      expires: request.expires,
      identity,
      database: request.database,
      role,
      session: request.session,
      client_address: clientAddress,
      statement: { text: request.statement, kind: statementKind, count },
      parameters: review.parameters,
      rule,
      reason,
      requirements: request.requirements,
      estimate: review.estimate,
      settings: review.settings,
      transaction: review.transaction,
      statements: review.statements,
      outcome: request.outcome,
    },
  }
}

function lines(event: ApprovalEvent): { title: string; facts: [string, string][]; text: string } {
  const { request, kind } = event
  const { document, review } = request
  const { identity } = document
  const behalf = identity.on_behalf_of === null ? '' : ` on behalf of ${identity.on_behalf_of}`
  const { estimate } = review
  const shown = [...request.statement].slice(0, quotedLengthMax).join('')
  return {
    title:
      kind === 'requested'
        ? `${identity.user}${behalf} asks to run a statement on ${request.database}`
        : `Approval ${request.id} is ${request.state}`,
    facts: [
      ['Why', document.reason],
      ['Asked of', sayRequirements(request.requirements)],
      ['From', `${document.clientAddress}, role ${document.role}`],
      ...(estimate === null
        ? []
        : [
            // rows_max: what changes rows and returns none is expected to give 0.
            [
              'Estimate',
              `about ${String(estimate.rows_max)} rows, cost ${String(estimate.cost)}`,
            ] as [string, string],
          ]),
      kind === 'requested'
        ? ['Open for', sayDuration(request.ttlMs)]
        : ['Outcome', request.outcome ?? request.state],
      ['Id', request.id],
    ],
    text: shown.length < request.statement.length ? `${shown}…` : shown,
  }
}

/** https://api.slack.com/reference/surfaces/formatting#escaping */
function slackText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** Slack's Block Kit. A statement cannot end its own code block: backticks are taken apart. */
function slackPayload(event: ApprovalEvent): object {
  const { title, facts, text } = lines(event)
  const code = slackText(text).replace(/`(?=`)/g, '`\u200b')
  const list = facts.map(([name, value]) => `*${name}:* ${slackText(value)}`).join('\n')
  const button = {
    type: 'actions',
    elements: [
      { type: 'button', text: { type: 'plain_text', text: 'Look at it' }, url: event.link },
    ],
  }
  return {
    text: slackText(title),
    blocks: [
      { type: 'section', text: { type: 'mrkdwn', text: `*${slackText(title)}*` } },
      { type: 'section', text: { type: 'mrkdwn', text: `\`\`\`${code}\`\`\`` } },
      { type: 'section', text: { type: 'mrkdwn', text: list } },
      ...(event.link === null ? [] : [button]),
    ],
  }
}

/** An Adaptive Card; text blocks of the statement are not read as Markdown (`RichTextBlock`). */
function teamsPayload(event: ApprovalEvent): object {
  const { title, facts, text } = lines(event)
  const run = (content: string, more: object = {}): object => ({
    type: 'RichTextBlock',
    inlines: [{ type: 'TextRun', text: content, ...more }],
  })
  const actions = [{ type: 'Action.OpenUrl', title: 'Look at it', url: event.link }]
  return {
    type: 'message',
    attachments: [
      {
        contentType: 'application/vnd.microsoft.card.adaptive',
        contentUrl: null,
        content: {
          $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
          type: 'AdaptiveCard',
          version: '1.4',
          body: [
            run(title, { weight: 'Bolder' }),
            run(text, { fontType: 'Monospace' }),
            ...facts.map(([name, value]) => run(`${name}: ${value}`)),
          ],
          ...(event.link === null ? {} : { actions }),
        },
      },
    ],
  }
}
