// @ai-sdk/gateway of AI SDK 5.
import { embed, embedMany } from 'ai5';
import { createGateway } from 'gateway5';
import { main } from './cases.mjs';
import { casesOf } from './gateway_cases.mjs';

await main(casesOf({ embed, embedMany, createGateway, path: '/v1/ai' }));
