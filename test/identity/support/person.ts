/**
 * A person with a browser without pictures: follows redirects, keeps cookies, fills in and sends the
 * forms of the provider's pages.
 */

/** What is typed into a form, by field. */
export type Answers = Readonly<Record<string, string>>

const stepsMax = 20

/** Opens an address and goes on until there is no form left; gives the last page's text. */
export async function browse(address: string, answers: Answers): Promise<string> {
  const cookies = new Map<string, string>()
  let url = new URL(address)
  let body: URLSearchParams | null = null
  for (let step = 0; step < stepsMax; step++) {
    const response = await fetch(url, {
      method: body === null ? 'GET' : 'POST',
      redirect: 'manual',
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
      ...(body === null ? {} : { body }),
    })
    body = null
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
      if (value === '') cookies.delete(name)
      else cookies.set(name, value)
    }
    const location = response.headers.get('location')
    if (location !== null) {
      url = new URL(location, url)
      continue
    }
    const page = await response.text()
    const form = /<form([^>]*)>([\s\S]*?)<\/form>/.exec(page)
    if (form === null || response.status >= 400) return page
    const action = /action="([^"]*)"/.exec(form[1] ?? '')?.[1] ?? ''
    url = new URL(action.replaceAll('&amp;', '&'), url)
    body = new URLSearchParams()
    for (const [input] of (form[2] ?? '').matchAll(/<input[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(input)?.[1]
      if (name === undefined) continue
      body.set(name, answers[name] ?? /value="([^"]*)"/.exec(input)?.[1] ?? '')
    }
  }
  throw new Error(`no end of forms at ${url.href}`)
}
