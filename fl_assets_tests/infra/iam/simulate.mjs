// Reads a JSON list of simulations from standard input and writes a list of their results:
// Allowed, ExplicitlyDenied or ImplicitlyDenied. One that is not valid ends it all.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

// The simulator drops the encryption context of KMS from requests. Under the name of a key that it
// keeps, in requests and policies alike, it is compared as KMS does.
const input = readFileSync(0, 'utf8').replaceAll(
  'kms:EncryptionContext:aws:s3:arn',
  'aws:PrincipalTag/EncryptionContext'
)

const results = []
for (const simulation of JSON.parse(input)) {
  const found = await runSimulation(simulation, {})
  if (found.resultType === 'error') {
    throw new Error(JSON.stringify({ request: simulation.request, errors: found.errors }))
  }
  results.push(found.overallResult)
}
process.stdout.write(JSON.stringify(results))
