/**
 * Source text for the start of a worker thread that may be late: it yields to the thread that serves
 * the sessions. Linux keeps a niceness for each thread (setpriority(2), "C library/kernel
 * differences"); elsewhere it would be the whole process's, and nothing is done.
 */
export const yieldingThread = `
if (process.platform === 'linux') {
  try {
    require('node:os').setPriority(0, 5)
  } catch {
    // Forbidden here: it runs as the others do.
  }
}
`
