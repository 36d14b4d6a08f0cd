// @ai-sdk/gateway of AI SDK 7.
import { embed, embedMany } from 'ai7';
import { createGateway } from 'gateway7';
import { main } from './cases.mjs';
import { casesOf } from './gateway_cases.mjs';

await main(casesOf({ embed, embedMany, createGateway, path: '/v4/ai' }));
