// The TypeScript SDK v1, which knows the legacy era only.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { runChecks } from './checks.mjs';

await runChecks('TypeScript v1', '2025-11-25', async (url, token, onTools) => {
  const client = new Client({ name: 'interop-v1', version: '1' });
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
  client.setNotificationHandler(ToolListChangedNotificationSchema, onTools);
  await client.connect(transport);
  return {
    client,
    version: transport.protocolVersion,
    call: (params, options) => client.callTool(params, undefined, options),
    close: async () => {
      await transport.terminateSession();
      await client.close();
    },
  };
});
