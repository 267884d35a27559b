// The TypeScript SDK v2: client-v2.mjs legacy|auto|modern.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { runChecks } from './checks.mjs';

const [mode] = process.argv.slice(2);
const modern = '2026-07-28';
const negotiation = { legacy: 'legacy', auto: 'auto', modern: { pin: modern } };

await runChecks(`TypeScript v2 ${mode}`, mode === 'legacy' ? '2025-11-25' : modern, async (url, token, onTools) => {
  const client = new Client(
    { name: 'interop-v2', version: '1' },
    { versionNegotiation: { mode: negotiation[mode] }, listChanged: { tools: { onChanged: onTools } } },
  );
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
  await client.connect(transport);
  return {
    client,
    version: client.getNegotiatedProtocolVersion(),
    call: (params, options) => client.callTool(params, options),
    close: async () => {
      if (mode === 'legacy') await transport.terminateSession();
      await client.close();
    },
  };
});
