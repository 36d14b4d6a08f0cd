// @ai-sdk/gateway of AI SDK 6.
import { embed, embedMany } from 'ai6';
import { createGateway } from 'gateway6';
import { main } from './cases.mjs';
import { casesOf } from './gateway_cases.mjs';

await main(casesOf({ embed, embedMany, createGateway, path: '/v3/ai' }));
