/**
 * `application_name` upstream: the subject first, then the client's own name, so that
 * pg_stat_activity and the server's log name the person.
 */

/** NAMEDATALEN - 1: the server cuts what is longer. */
const bytesMax = 63

/**
 * `<subject>/<client's name>` in printable ASCII, as the server would make it (pg_clean_ascii); the
 * client's name is what gives way where there is no room.
 */
export function applicationName(subject: string, clientName: string): string {
  const who = printable(subject).slice(0, bytesMax)
  const room = bytesMax - who.length - 1
  const what = printable(clientName)
  return what === '' || room < 1 ? who : `${who}/${what.slice(0, room)}`
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/gu, '?')
}
